"""Folders of plain files that tiers back up for clients which can run nothing, by the real commands."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .command import Shell

OLD_S = 1_600_000_000


def write(folder: Path, **texts: str) -> None:
    """Files as a device leaves them that has finished a while ago."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
        os.utime(folder / name, (OLD_S, OLD_S))
    os.utime(folder, (OLD_S, OLD_S))


@pytest.fixture
def shell(quiet_path: Path) -> Shell:
    """At home where the folders above do not change, since trees hold them."""
    return Shell(quiet_path)


def configure(shell: Shell, text: str) -> None:
    (shell.folder / "cdr.toml").write_text(text)
    (shell.folder / "password").write_text("a password\n")


TOP = """
[tier.hq]
state = "hq-state"
identity = "hq-identity"
[tier.hq.receive]
inbox = "hq-inbox"
[tier.hq.store]
repository = "repository-{group}"
password_file = "password"
"""


def agentless(tier: str, client: str, folder: str, *, group: str = "legal", more: str = "") -> str:
    return f'[[tier.{tier}.receive.agentless]]\nclient = "{client}"\ngroup = "{group}"\nfolder = "{folder}"\n{more}\n'


def snapshots(shell: Shell, group: str = "legal") -> list[dict[str, Any]]:
    done = shell.restic("-r", f"repository-{group}", "-p", "password", "snapshots", "--json")
    return [one for one in json.loads(done.out) if "cdr-pin" not in one.get("tags", ())]


def restics_tree(shell: Shell, folder: Path, group: str = "legal") -> str:
    """What stock restic makes of the folder as it is now, in the same repository."""
    shell.restic("-r", f"repository-{group}", "-p", "password", "backup", "--host", "oracle", folder)
    found = snapshots(shell, group)[-1]
    assert found["hostname"] == "oracle"
    return str(found["tree"])


def test_one_receive_makes_and_stores_a_version_with_the_tree_of_restic(shell: Shell) -> None:
    phone = agentless("hq", "phone", "photos", group="private")
    configure(shell, TOP + agentless("hq", "printer", "scans") + phone)
    folder = shell.folder / "scans"
    write(folder, one="1", two="2" * 100_000)
    write(shell.folder / "photos", picture="a picture")
    write(folder / "inner", three="3")
    (folder / "out").symlink_to("/etc")
    (folder / "hostile").symlink_to("../hq-identity")
    (folder / os.fsdecode(b"not \xff utf-8")).write_bytes(b"name")
    before = sorted((path, path.lstat().st_mtime_ns) for path in folder.rglob("*"))
    made = shell.json("init")["made"]
    assert any("client hq for printer in group legal" in line for line in made)
    done = shell.json("receive", "--now")
    assert (done["versions_made"], done["versions_stored"]) == (2, 2)
    assert [one["hostname"] for one in snapshots(shell, "private")] == ["phone"]
    (snapshot,) = snapshots(shell)
    assert (snapshot["hostname"], snapshot["paths"]) == ("printer", [str(folder)])
    assert snapshot["tree"] == restics_tree(shell, folder)
    assert sorted((path, path.lstat().st_mtime_ns) for path in folder.rglob("*")) == before
    assert list((shell.folder / "hq-state").glob("_agentless/legal/printer/spool/*/*")) == []  # freed by the receipt
    listed = shell.restic("-r", "repository-legal", "-p", "password", "ls", "latest", "--host", "printer").out
    assert f"{folder}/out" in listed
    assert "passwd" not in listed
    assert shell.json("receive", "--now")["versions_made"] == 0
    (folder / "one").unlink()
    done = shell.json("receive", "--now")
    assert (done["versions_made"], done["versions_stored"]) == (1, 1)
    assert "no errors" in shell.restic("-r", "repository-legal", "-p", "password", "check", "--read-data").out


def test_what_is_written_waits_and_what_is_gone_makes_no_version_and_stops_nobody(shell: Shell) -> None:
    configure(shell, TOP + agentless("hq", "printer", "scans") + agentless("hq", "phone", "photos"))
    write(shell.folder / "scans", one="1")
    (shell.folder / "scans/young").write_text("just now")
    write(shell.folder / "photos")
    shell.cdr("init")
    done = shell.cdr("receive", "--json", code=75)
    assert "waiting for" in done.summary["waiting_for"]
    assert done.summary["versions_made"] == 1  # that of the empty folder
    write(shell.folder / "scans", young="just now")
    (shell.folder / "photos").rmdir()
    done = shell.cdr("receive", code=1)
    assert f"hq for phone: agentless folder {shell.folder}/photos: it is not there; make it" in done.err
    assert [one["hostname"] for one in snapshots(shell)] == ["phone", "printer"]
    (shell.folder / "scans").rename(shell.folder / "elsewhere")
    (shell.folder / "scans").symlink_to("elsewhere")
    assert "never followed" in shell.cdr("receive", code=1).err
    assert len(snapshots(shell)) == 2


@pytest.mark.parametrize("reduces", [False, True], ids=["opens nothing", "reduces"])
def test_an_intermediate_tier_makes_versions_for_the_top_tier(shell: Shell, reduces: bool) -> None:
    """Without a key of its own, if it opens nothing."""
    branch = f"""
        [tier.branch]
        state = "branch-state"
        identity = "branch-identity"
        [tier.branch.receive]
        inbox = "branch-inbox"
        layout = "per-group"
        [tier.branch.reduce]
        methods = {["commonality"] if reduces else []}
        [tier.branch.forward]
        to = "hq-inbox"
        """
    configure(shell, TOP + branch + agentless("branch", "nas", "share"))
    write(shell.folder / "share", one="1")
    shell.cdr("init")
    for step in ("receive --now -T branch", "send -T branch", "receive -T hq", "send -T branch", "receive -T branch"):
        shell.cdr(*step.split())
    (snapshot,) = snapshots(shell)
    assert snapshot["hostname"] == "nas"
    assert snapshot["tree"] == restics_tree(shell, shell.folder / "share")
    assert (shell.folder / "branch-identity/identity.key").exists() == reduces
    assert list((shell.folder / "branch-inbox/groups").glob("*/*/head"))
    assert list((shell.folder / "branch-state").glob("_agentless/legal/nas/spool/*/*")) == []
    (client,) = shell.json("status", "-T", "branch")["tiers"][0]["clients"]
    assert (client["name"], client["state"]) == ("nas", "committed")


def test_a_ticket_enrols_it_where_the_top_tier_is_elsewhere(tmp_path: Path) -> None:
    hq, branch = Shell(tmp_path / "hq"), Shell(tmp_path / "branch")
    hq.folder.mkdir()
    branch.folder.mkdir()
    configure(hq, TOP + "[tier.hq.group.legal]\n")
    hq.cdr("init")
    table = f"""
        [tier.branch]
        state = "state"
        identity = "identity"
        [tier.branch.receive]
        inbox = "inbox"
        [tier.branch.forward]
        to = "{hq.folder}/hq-inbox"
        """
    write(branch.folder / "share", one="1")
    configure(branch, table + agentless("branch", "nas", "share"))
    assert "'ticket' in its table [[tier.branch.receive.agentless]]" in branch.cdr("init").err
    assert "not enrolled" in branch.cdr("receive", "--now", code=1).err
    (branch.folder / "nas.ticket").write_text(hq.json("ticket", "--group", "legal")["ticket"])
    configure(branch, table + agentless("branch", "nas", "share", more='ticket = "nas.ticket"'))
    branch.cdr("init")
    branch.cdr("receive", "--now")
    branch.cdr("send")
    assert hq.json("receive")["versions_stored"] == 1
    assert snapshots(hq)[0]["hostname"] == "nas"


def test_a_tier_that_has_lost_its_state_goes_on_with_the_same_client(shell: Shell) -> None:
    configure(shell, TOP + agentless("hq", "printer", "scans"))
    write(shell.folder / "scans", one="1")
    shell.cdr("init")
    shell.cdr("receive", "--now")
    (shell.folder / "hq-state").rename(shell.folder / "lost")
    shell.cdr("init")
    write(shell.folder / "scans", two="2")
    shell.cdr("receive", "--now")
    assert [one["hostname"] for one in snapshots(shell)] == ["printer"] * 2
    (client,) = shell.cdr("clients", "--json").documents[0]
    assert client["name"] == "printer"


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (agentless("hq", "a", "hq-inbox"), "is an inbox; plain files need a folder of their own"),
        (agentless("hq", "a", "x") + agentless("hq", "a", "y"), "has a folder of client a already"),
        (agentless("hq", "a", "sftp://nas/x"), "receive.agentless.folder that is no folder of this machine"),
    ],
)
def test_what_cannot_be_is_one_line(shell: Shell, tables: str, reason: str) -> None:
    configure(shell, TOP + tables)
    assert reason in shell.cdr("receive", "--now", code=1).error
