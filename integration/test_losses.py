"""What can be lost of a tier, and the way back from each loss, by the commands that docs/operating.md names.

Each ends with stock restic's check of every byte, and with the tree that restic itself makes of the same files.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.compare import assert_same_tree

from .command import Shell
from .hosts import Hierarchy, files_in
from .in_process import run_in_process

PASS = {"CDR_PASSPHRASE": "correct horse battery staple"}


@pytest.fixture
def hierarchy(quiet_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    run_in_process(monkeypatch)
    return Hierarchy(quiet_path, branched=True).init()


@pytest.fixture
def alice(hierarchy: Hierarchy) -> Shell:
    return with_a_version(hierarchy, "alice")


@pytest.fixture
def bob(hierarchy: Hierarchy) -> Shell:
    return with_a_version(hierarchy, "bob")


def with_a_version(hierarchy: Hierarchy, name: str) -> Shell:
    client = hierarchy.client(name, source='timezone = "UTC"')
    files_in(client.folder / "files", kept=f"kept by {name}\n" * 2000, word="one")
    client.cdr("backup")
    hierarchy.deliver(client)
    return client


def captured(client: Shell, word: str = "two") -> dict[str, Any]:
    """A version whose files have changed since: nobody but the spool has what is in it."""
    files_in(client.folder / "files", word=word * 1000)
    made = client.json("backup")
    files_in(client.folder / "files", word=f"after {word}")
    return made


def lose(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder)


def states(client: Shell) -> list[tuple[int, str]]:
    (shown,) = client.json("status")["tiers"][0]["clients"]
    return [(one["number"], one["state"]) for one in shown["versions"]]


def assert_well(hierarchy: Hierarchy, *clients: Shell, versions: int) -> None:
    """Another version of each arrives too, without a complaint; ``versions`` of each are there then."""
    for client in clients:
        files_in(client.folder / "files", last="the last word")
        client.cdr("backup")
        for _ in range(2):
            assert client.cdr("send").err == ""
            hierarchy.deliver(client)
        assert states(client)[-1][1] == "committed"
        assert client.json("status")["tiers"][0]["queue"] == {"segments": 0, "bytes": 0}
        _assert_trees(hierarchy, client, versions)
    hierarchy.repository().check()


def _assert_trees(hierarchy: Hierarchy, client: Shell, versions: int) -> None:
    repository, name = hierarchy.repository(), client.folder.name
    files = client.folder / "files"
    repository.restic("backup", "--host", "oracle", "--force", files)
    found = repository.snapshots()
    own = [one for one in found if one["hostname"] == name]
    oracle = [one for one in found if one["hostname"] == "oracle"]
    assert len(own) == versions
    assert own[-1]["tree"] == oracle[-1]["tree"]
    repository.restic("forget", oracle[-1]["id"])
    out = hierarchy.folder / "out"
    repository.restic("restore", own[-1]["id"], "--target", out)
    assert_same_tree(files, out / files.relative_to("/"))
    lose(out)


def words(hierarchy: Hierarchy, client: Shell) -> list[str]:
    """The first word of the file ``word`` in each version of the client, oldest first."""
    repository = hierarchy.repository()
    own = [one for one in repository.snapshots() if one["hostname"] == client.folder.name]
    return [repository.restic("dump", one["id"], f"{client.folder}/files/word").out[:3] for one in own]


# --- an intermediate tier ---


@pytest.mark.parametrize("has_received", [False, True])
def test_an_intermediate_tier_whose_state_is_lost_is_made_anew(
    hierarchy: Hierarchy, alice: Shell, has_received: bool
) -> None:
    captured(alice)
    alice.cdr("send")
    if has_received:
        hierarchy.branch.cdr("receive")
    lose(hierarchy.branch.folder / "state")
    hierarchy.branch.cdr("init")
    for _ in range(2):
        hierarchy.deliver()
    assert states(alice) == [(2, "committed")]
    assert words(hierarchy, alice) == ["one", "two"]
    assert_well(hierarchy, alice, versions=3)


def test_an_intermediate_tier_and_its_inbox_may_be_replaced_by_a_new_machine(
    hierarchy: Hierarchy, alice: Shell
) -> None:
    captured(alice)
    alice.cdr("send")
    lose(hierarchy.branch.folder / "state", hierarchy.folder / "storage" / "branch")
    hierarchy.branch.cdr("init")
    for _ in range(3):
        hierarchy.deliver()
    assert states(alice) == [(2, "committed")]
    assert words(hierarchy, alice) == ["one", "two"]
    assert_well(hierarchy, alice, versions=3)


# --- the top tier ---


@pytest.mark.parametrize("arrived", [False, True])
def test_a_top_tier_whose_state_is_lost_makes_it_again(hierarchy: Hierarchy, alice: Shell, arrived: bool) -> None:
    captured(alice)
    if arrived:
        alice.cdr("send")
        hierarchy.branch.cdr("receive")
        hierarchy.branch.cdr("send")
    lose(hierarchy.hq.folder / "state")
    hierarchy.hq.cdr("receive")
    for _ in range(2):
        hierarchy.deliver()
    assert words(hierarchy, alice) == ["one", "two"]
    assert_well(hierarchy, alice, versions=3)


@pytest.mark.parametrize("way", ["captured", "in the branch", "in the inbox"])
@pytest.mark.parametrize("state_is_lost", [False, True])
def test_without_its_identity_a_top_tier_issues_new_tickets_and_gets_what_was_under_way(
    hierarchy: Hierarchy, alice: Shell, way: str, state_is_lost: bool
) -> None:
    captured(alice)
    if way != "captured":
        alice.cdr("send")
        hierarchy.branch.cdr("receive")
    if way == "in the inbox":
        hierarchy.branch.cdr("send")
    lose(hierarchy.hq.folder / "identity", *[hierarchy.hq.folder / "state"] * state_is_lost)
    hierarchy.hq.cdr("init")
    hierarchy.enroll(alice)
    alice.cdr("send")
    hierarchy.branch.cdr("receive")
    hierarchy.branch.cdr("send")
    hierarchy.hq.cdr("receive", code=0 if way == "captured" else 1)  # what was sealed to the lost key is named
    for _ in range(2):
        hierarchy.deliver()
    assert states(alice) == [(2, "committed")]
    assert words(hierarchy, alice) == ["one", "two"]
    assert_well(hierarchy, alice, versions=3)


def exported(host: Shell, name: str = "kept") -> Path:
    """The file that an operator keeps away from the machine."""
    made = host.json("identity", "export", name, **PASS)
    kept = host.folder.parent / f"{host.folder.name}.{name}"
    (host.folder / name).rename(kept)
    assert made["bytes"] == kept.stat().st_size
    assert kept.stat().st_mode & 0o777 == 0o600
    return kept


def test_the_identity_of_a_top_tier_comes_back_from_its_export(hierarchy: Hierarchy, alice: Shell) -> None:
    """Also after rotations, with a parcel under way that was sealed before them."""
    captured(alice)
    alice.cdr("send")
    hierarchy.hq.cdr("identity", "rotate", "--signing")
    hierarchy.hq.cdr("identity", "rotate", "--group", "legal")
    kept = exported(hierarchy.hq)
    before = hierarchy.hq.json("identity", "show")
    lose(hierarchy.hq.folder / "identity")
    hierarchy.hq.cdr("identity", "recover", kept, **PASS)
    assert hierarchy.hq.json("identity", "show") == before
    assert hierarchy.hq.json("init")["made"] == []
    for _ in range(2):
        hierarchy.deliver()
    assert words(hierarchy, alice) == ["one", "two"]
    assert_well(hierarchy, alice, versions=3)


def test_who_enrolled_after_the_export_needs_a_new_ticket_and_keeps_its_name(
    hierarchy: Hierarchy, alice: Shell
) -> None:
    kept = exported(hierarchy.hq)
    bob = with_a_version(hierarchy, "bob")
    captured(bob)
    lose(hierarchy.hq.folder / "identity")
    hierarchy.hq.cdr("identity", "recover", kept, **PASS)
    bob.cdr("send")
    hierarchy.branch.cdr("receive")
    hierarchy.branch.cdr("send")
    assert "unknown sender" in hierarchy.hq.cdr("receive").err
    hierarchy.enroll(bob)
    for _ in range(2):
        hierarchy.deliver()
    assert words(hierarchy, bob) == ["one", "two"]
    assert_well(hierarchy, alice, versions=2)
    assert_well(hierarchy, bob, versions=3)


def test_a_new_machine_becomes_the_top_tier_with_export_configuration_and_repository(
    hierarchy: Hierarchy, alice: Shell, bob: Shell
) -> None:
    """The inbox is lost with the old one."""
    kept = exported(hierarchy.hq)
    for client in (alice, bob):
        captured(client)
        client.cdr("send")
    hierarchy.branch.cdr("receive")
    hierarchy.branch.cdr("send")
    hq = hierarchy.hq.folder
    saved = [hq / name for name in ("cdr.toml", "legal.password", "repository-legal")]
    for path in saved:
        path.rename(hierarchy.folder / f"saved-{path.name}")
    lose(hq, hierarchy.folder / "storage" / "hq")
    hq.mkdir()
    for path in saved:
        (hierarchy.folder / f"saved-{path.name}").rename(path)
    assert "run 'cdr init' next" in hierarchy.hq.cdr("identity", "recover", kept, **PASS).out
    assert "adopted repository" in hierarchy.hq.cdr("init").out
    for _ in range(3):
        hierarchy.deliver()
    for client in (alice, bob):
        assert states(client) == [(2, "committed")]
        assert words(hierarchy, client) == ["one", "two"]
        assert_well(hierarchy, client, versions=3)


@pytest.mark.parametrize("under_way", [False, True])
def test_without_its_register_a_top_tier_issues_new_tickets_and_clients_keep_their_names(
    hierarchy: Hierarchy, alice: Shell, bob: Shell, under_way: bool
) -> None:
    for client in (alice, bob):
        captured(client)
        if under_way:
            client.cdr("send")
    for path in (hierarchy.hq.folder / "identity").glob("register.db*"):
        path.unlink()
    for client in (alice, bob):
        hierarchy.enroll(client)
    for _ in range(2):
        hierarchy.deliver()
    for client in (alice, bob):
        assert words(hierarchy, client) == ["one", "two"]
        assert_well(hierarchy, client, versions=3)


# --- a client ---


def test_a_client_that_is_lost_goes_on_under_a_new_name(hierarchy: Hierarchy, alice: Shell) -> None:
    (known,) = hierarchy.hq.cdr("clients", "--json").documents[0]
    hierarchy.repository().restic("restore", "latest", "--host", "alice", "--target", hierarchy.folder / "back")
    lose(alice.folder)
    hierarchy.clients.clear()
    anew = hierarchy.client("anew", source='timezone = "UTC"')
    shutil.rmtree(anew.folder / "files")
    (hierarchy.folder / "back" / alice.folder.relative_to("/") / "files").rename(anew.folder / "files")
    for _ in range(2):
        hierarchy.deliver()
    hierarchy.hq.cdr("adopt", "anew", "--from", known["fingerprint"])
    hierarchy.branch.cdr("send")
    anew.cdr("adopt")
    assert anew.json("backup")["data_added"] < 6000  # trees of another folder
    hierarchy.deliver()
    assert_well(hierarchy, anew, versions=2)


def test_a_client_that_is_lost_with_its_keys_goes_on_under_its_name_by_the_operators_word(
    hierarchy: Hierarchy, alice: Shell
) -> None:
    lose(alice.folder / "state", alice.folder / "identity")
    alice.cdr("init")
    hierarchy.enroll(alice)
    new = alice.json("identity", "show")["tiers"][0]["fingerprint"]
    alice.cdr("send")
    hierarchy.branch.cdr("receive")
    hierarchy.branch.cdr("send")
    assert "taken" in hierarchy.hq.cdr("receive").err
    hierarchy.hq.cdr("clients", "rekey", "alice", new[:16])
    hierarchy.hq.cdr("adopt", "alice")
    hierarchy.branch.cdr("send")
    alice.cdr("adopt")
    made = alice.json("backup")
    assert (made["version"], made["data_blobs"]) == (2, 0)
    assert_well(hierarchy, alice, versions=3)


@pytest.mark.parametrize("adopts", [False, True])
def test_a_client_comes_back_from_its_export_and_goes_on_with_its_next_number(
    hierarchy: Hierarchy, alice: Shell, adopts: bool
) -> None:
    """The export is older than its newest version, and than keys of the top tier."""
    kept = exported(alice)
    captured(alice)
    for _ in range(2):
        hierarchy.deliver()
    hierarchy.hq.cdr("identity", "rotate", "--signing")
    lose(alice.folder / "state", alice.folder / "identity")
    alice.cdr("identity", "recover", kept, **PASS)
    alice.cdr("init")
    if adopts:
        hierarchy.hq.cdr("adopt", "alice")
        hierarchy.branch.cdr("send")
        alice.cdr("adopt")
    alice.cdr("send")
    made = alice.json("backup")
    assert made["version"] == 3
    assert (made["data_blobs"] == 1) is adopts
    assert_well(hierarchy, alice, versions=4)
    assert words(hierarchy, alice) == ["one", "two", "aft", "aft"]


def test_a_client_that_was_never_heard_of_before_its_loss_enrols_from_its_export(hierarchy: Hierarchy) -> None:
    carol = hierarchy.client("carol", source='timezone = "UTC"')
    files_in(carol.folder / "files", word="one")
    kept = exported(carol)
    lose(carol.folder / "state", carol.folder / "identity")
    carol.cdr("identity", "recover", kept, **PASS)
    assert carol.json("init")["made"] == []
    assert_well(hierarchy, carol, versions=1)
