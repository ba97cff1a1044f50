"""Tiers on separate hosts: enrolment, groups, sources, exclusions and commands around a version."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from .command import Shell
from .hosts import Hierarchy, files_in


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    return Hierarchy(tmp_path).init()


def paths_in(hierarchy: Hierarchy, group: str = "legal", version: str = "latest") -> set[str]:
    """Below the host's folder, what restic lists of a version."""
    lines = map(json.loads, hierarchy.repository(group).restic("ls", version, "--json").out.splitlines())
    return {line["path"].partition("/files/")[2] for line in lines if "/files/" in line.get("path", "")}


def backed_up(hierarchy: Hierarchy, client: Shell, *arguments: str) -> set[str]:
    client.cdr("backup", *arguments)
    hierarchy.deliver(client)
    return paths_in(hierarchy)


def test_three_hosts_pass_versions_up_and_receipts_down(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path, branched=True).init()
    alice = hierarchy.client("alice")
    for content in ("one", "two"):
        files_in(alice.folder / "files", letter=content)
        alice.cdr("backup")
        assert hierarchy.deliver()["versions_stored"] == 1
        hierarchy.repository().check()
    (state,) = alice.json("status")["tiers"][0]["clients"]
    assert (state["last_version"], state["last_stored"], state["state"]) == (2, 2, "committed")
    assert [one["hostname"] for one in hierarchy.repository().snapshots()] == ["alice", "alice"]
    hierarchy.hq.cdr("restore", "latest", "--client", "alice", "--target", "out")
    assert (hierarchy.hq.folder / f"out{alice.folder}/files/letter").read_text() == "two"
    for host in (alice, hierarchy.branch, hierarchy.hq):
        assert host.json("status")["tiers"][0]["queue"] == {"segments": 0, "bytes": 0}


def test_clients_of_one_group_store_what_they_share_once(hierarchy: Hierarchy) -> None:
    shared = os.urandom(9_000_000)  # no chunk has more than 8 MiB
    alice, bob = hierarchy.client("alice"), hierarchy.client("bob")
    stored = []
    for client in (alice, bob):
        files_in(client.folder / "files", shared=shared, own=client.folder.name)
        client.cdr("backup")
        stored.append(hierarchy.deliver(client))
    assert stored[0]["blobs_duplicate"] == 0
    assert stored[1]["blobs_duplicate"] >= 2
    size = sum(path.stat().st_size for path in hierarchy.repository().folder.glob("data/*/*"))
    assert size < 1.1 * len(shared)
    hierarchy.repository().check()


def test_groups_have_a_repository_each_and_share_nothing(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path, groups=("legal", "sales")).init()
    shared = os.urandom(1_000_000)
    for name, group in (("alice", "legal"), ("bob", "sales")):
        client = hierarchy.client(name, group)
        files_in(client.folder / "files", shared=shared)
        client.cdr("backup")
    received = hierarchy.deliver()
    assert (received["versions_stored"], received["blobs_duplicate"]) == (2, 0)
    for name, group in (("alice", "legal"), ("bob", "sales")):
        hierarchy.repository(group).check()
        assert [one["hostname"] for one in hierarchy.repository(group).snapshots()] == [name]
        assert {c["name"] for c in json.loads(hierarchy.hq.cdr("clients", "-G", group, "--json").out)} == {name}
    shown = json.loads(hierarchy.hq.cdr("snapshots", "--json").out)
    assert {one["hostname"] for one in shown} == {"alice", "bob"}
    (only,) = json.loads(hierarchy.hq.cdr("snapshots", "--group", "sales", "--json").out)
    assert only["hostname"] == "bob"


def test_trouble_with_one_group_does_not_stop_the_others(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path, groups=("legal", "sales")).init()
    for name, group in (("alice", "legal"), ("bob", "sales")):
        client = hierarchy.client(name, group)
        files_in(client.folder / "files", letter=name)
        client.cdr("backup")
        client.cdr("send")
    password = hierarchy.repository("legal").password_file
    right = password.read_text()
    password.write_text("wrong\n")
    done = hierarchy.hq.cdr("receive", code=12)
    assert "cdr: receive: hq, group legal: the password opens no key" in done.err
    assert "stored 1 versions" in done.out
    password.write_text(right)
    assert hierarchy.deliver()["versions_stored"] == 1
    for group in hierarchy.groups:
        assert len(hierarchy.repository(group).snapshots()) == 1


def test_nothing_more_is_taken_from_a_revoked_client_until_it_is_approved(hierarchy: Hierarchy) -> None:
    alice, bob = hierarchy.client("alice"), hierarchy.client("bob")
    for client in (alice, bob):
        files_in(client.folder / "files", first="1")
        client.cdr("backup")
    hierarchy.deliver()
    hierarchy.hq.cdr("clients", "revoke", "alice")
    states = {c["name"]: c["state"] for c in json.loads(hierarchy.hq.cdr("clients", "list", "--json").out)}
    assert states == {"alice": "revoked", "bob": "approved"}
    for client in (alice, bob):
        files_in(client.folder / "files", second="2")
        client.cdr("backup")
        client.cdr("send")
    hierarchy.hq.cdr("receive")
    assert sorted(one["hostname"] for one in hierarchy.repository().snapshots()) == ["alice", "bob", "bob"]
    hierarchy.hq.cdr("clients", "approve", "alice")
    hierarchy.deliver()
    assert sorted(one["hostname"] for one in hierarchy.repository().snapshots()) == ["alice", "alice", "bob", "bob"]
    hierarchy.repository().check()


def test_several_sources_are_one_version(hierarchy: Hierarchy, tmp_path: Path) -> None:
    more = tmp_path / "more"
    files_in(more, extra="e")
    alice = hierarchy.client("alice")
    files_in(alice.folder / "files", letter="l")
    alice.cdr("backup", alice.folder / "files", more, "--tag", "a,b", "--tag", "c", "--host", "other-name")
    hierarchy.deliver()
    (snapshot,) = hierarchy.repository().snapshots()
    assert snapshot["paths"] == sorted([str(alice.folder / "files"), str(more)])
    assert {"a", "b", "c"} <= set(snapshot["tags"])
    listed = hierarchy.repository().restic("ls", "latest").out.splitlines()
    assert {str(more / "extra"), str(alice.folder / "files" / "letter")} <= set(listed)


EXCLUSIONS = {
    'exclude = ["*.tmp", "skipped"]': {"a.tmp", "skipped", "skipped/inside"},
    'iexclude = ["*.TMP"]': {"a.tmp"},
    "exclude_caches = true": {"cache/inside"},
    'exclude_if_present = [".nobackup"]': {"marked/inside"},
    'exclude_larger_than = "1KiB"': {"big"},
    'exclude_file = "excludes"': {"big", "marked", "marked/inside", "marked/.nobackup"},
}
OPTIONS = {
    "--exclude=*.tmp": {"a.tmp"},
    "--iexclude=A.TMP": {"a.tmp"},
    "--exclude-caches": {"cache/inside"},
    "--exclude-if-present=.nobackup": {"marked/inside"},
    "--exclude-larger-than=1k": {"big"},
    "--exclude-file=excludes": {"big", "marked", "marked/inside", "marked/.nobackup"},
}


def _fill(client: Shell) -> set[str]:
    """One file for each kind of exclusion; all that there is."""
    tag = "Signature: 8a477f597d28d172789f06886806bc55\n"
    files_in(client.folder / "files", **{"a.tmp": "t", "big": "b" * 2000, "kept": "k"})
    files_in(client.folder / "files", cache__inside="i", skipped__inside="i", marked__inside="i")
    files_in(client.folder / "files", **{"cache__CACHEDIR.TAG": tag, "marked__.nobackup": ""})
    files_in(client.folder, excludes="# comment\n\nbig\nmarked\n")
    folders = {"cache", "skipped", "marked"}
    inside = {"cache/inside", "cache/CACHEDIR.TAG", "skipped/inside", "marked/inside", "marked/.nobackup"}
    return {"a.tmp", "big", "kept"} | folders | inside


@pytest.mark.parametrize("line", EXCLUSIONS)
def test_configured_exclusions(hierarchy: Hierarchy, line: str) -> None:
    client = hierarchy.client("alice", source=line)
    everything = _fill(client)
    assert backed_up(hierarchy, client) == everything - EXCLUSIONS[line]


def test_exclusions_of_the_command_line_add_to_the_configured_ones(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice", source='exclude = ["kept"]')
    everything = _fill(client)
    for option, excluded in OPTIONS.items():
        assert backed_up(hierarchy, client, option) == everything - excluded - {"kept"}
    assert backed_up(hierarchy, client, *OPTIONS) == everything - set().union(*OPTIONS.values()) - {"kept"}


def test_one_file_system_leaves_mount_points_empty(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice", source="one_file_system = true")
    mounted = client.folder / "files" / "mounted"
    mounted.mkdir()
    files_in(client.folder / "files", kept="k")
    client.run("mount", "-t", "tmpfs", "none", mounted)
    try:
        files_in(mounted, elsewhere="e")
        assert backed_up(hierarchy, client) == {"mounted", "kept"}
    finally:
        client.run("umount", mounted)


def test_no_folder_of_cdr_is_part_of_a_backup(shell: Shell) -> None:
    """All tiers of one file inside the very folder that is backed up."""
    made = shell.json("quickstart", ".", "--at", "demo")
    files_in(shell.folder, mine="m")
    own = shell.folder / "demo"
    everything = [own / name for name in ("laptop/state", "laptop/identity", "branch/inbox", "hq/identity")]
    text = (own / "cdr.toml").read_text()
    (own / "cdr.toml").write_text("".join(line for line in text.splitlines(True) if "exclude" not in line))
    for command in ("backup", "send", "receive -T branch", "send -T branch", "receive -T hq"):
        shell.cdr(*command.split(), "-c", made["config"])
    listed = shell.restic("-r", made["repository"], "-p", made["password_file"], "ls", "latest").out.splitlines()
    assert str(shell.folder / "mine") in listed
    assert str(own / "cdr.toml") in listed  # a file of the user's
    for folder in [*everything, own / "hq/repository", own / "hq/state"]:
        assert folder.is_dir()
        assert not [line for line in listed if line.startswith(f"{folder}/")]


def test_commands_run_around_a_version(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice", source='before = "date > files/dump"\nafter = "echo done >> log"')
    assert backed_up(hierarchy, client) == {"dump"}
    assert (client.folder / "log").read_text() == "done\n"


def test_a_failing_command_before_makes_no_version(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice", source='before = "exit 7"\nafter = "echo done >> log"')
    assert "(7): exit 7; no version was made" in client.cdr("backup", code=1).error
    assert (client.folder / "log").read_text() == "done\n"
    assert client.json("status")["tiers"][0]["clients"][0]["last_version"] is None


def test_files_from_names_the_paths(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice")
    files_in(client.folder / "files", one="1", two="2", **{"#odd": "3"})
    files_in(client.folder, list="# comment\n\nfiles/two\n")
    assert backed_up(hierarchy, client, "--files-from", "list") == {"two"}
    listed = hierarchy.repository().restic("ls", "latest").out.splitlines()
    assert [line for line in listed if line.startswith("/")] == ["/files", "/files/two"]  # as restic lays it out


def test_a_dry_run_tells_and_leaves_nothing(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice")
    files_in(client.folder / "files", letter="l")
    told = client.json("backup", "--dry-run")
    assert (told["version"], told["files_new"], told["dry_run"]) == (None, 1, True)
    assert told["data_blobs"] == 1
    assert list((client.folder / "state" / "spool").iterdir()) == []
    made = client.json("backup")
    assert (made["version"], made["tree"]) == (1, told["tree"])


def test_force_reads_again_and_sends_nothing_again(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice")
    files_in(client.folder / "files", letter="l")
    first = client.json("backup")
    again = client.json("backup", "--force")
    assert (again["version"], again["tree"], again["data_blobs"]) == (2, first["tree"], 0)
    assert again["files_new"] == 1


def test_an_unchanged_version_is_left_out_when_asked(hierarchy: Hierarchy) -> None:
    client = hierarchy.client("alice")
    files_in(client.folder / "files", letter="l")
    assert client.json("backup", "--skip-if-unchanged")["version"] == 1
    skipped = client.json("backup", "--skip-if-unchanged")
    assert skipped["version"] is None
    files_in(client.folder / "files", letter="changed")
    assert client.json("backup", "--skip-if-unchanged")["version"] == 2
    hierarchy.deliver()
    assert len(hierarchy.repository().snapshots()) == 2
    hierarchy.repository().check()
