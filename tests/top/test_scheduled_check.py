"""The scheduled check: what it finds, what it makes verified, and who hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from cdr_plugin.client.verified import verified_times
from cdr_plugin.contracts import Event
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.plugins import Plugins
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.care_state import CareState
from cdr_plugin.top.checking import Checked, check_group
from tests.support.chain import Recorder
from tests.support.crashing import kill_at
from tests.support.hierarchy import Hierarchy, make_quick

WORDS = Random(7)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    make_quick(monkeypatch)
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "old").write_bytes(WORDS.randbytes(30_000))
    (source / "folder" / "kept").write_bytes(WORDS.randbytes(40_000))
    made = Hierarchy.make(tmp_path / "world", source)
    made.backup()
    made.deliver()
    return made


def check(world: Hierarchy, subset: str = "", reporter: Reporter | None = None) -> Checked:
    chain = world.chain()
    try:
        return check_group(chain.top, subset, reporter or Reporter(), source=Random(1))
    finally:
        chain.top.close()


def verified_at_top(world: Hierarchy) -> list[int]:
    with CareState(world.chain().top.state_folder) as care:
        return sorted(number for _, number, _ in care.verified())


def verified_at_client(world: Hierarchy) -> list[int]:
    client = world.client()
    try:
        return sorted(number for number, _ in verified_times(client.state))
    finally:
        client.state.close()


def change_byte(pack: Path) -> None:
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[100] ^= 1
    pack.write_bytes(data)


def packs(world: Hierarchy) -> set[Path]:
    return {path for path in (world.chain().repository / "data").rglob("*") if path.is_file()}


def second_version(world: Hierarchy) -> Path:
    """One more version with a new file; the pack that holds that file's data."""
    before = packs(world)
    (world.source / "new").write_bytes(WORDS.randbytes(50_000))
    world.backup()
    world.deliver()
    return max(packs(world) - before, key=lambda path: path.stat().st_size)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    found: list[Event] = []

    def emit(_self: Plugins, event: Event) -> Iterator[str]:
        found.append(event)
        return iter(())

    monkeypatch.setattr(Plugins, "emit", emit)
    return found


# --- clean ---


def test_a_clean_check_makes_versions_verified_for_the_top_and_for_the_client(world: Hierarchy) -> None:
    second_version(world)
    found = check(world, "10%")
    assert found.is_clean and (found.verified, found.lost) == (2, 0)
    assert found.note.files_read > 0
    assert verified_at_top(world) == [1, 2]
    assert verified_at_client(world) == []
    world.send()
    assert verified_at_client(world) == [1, 2]


def test_a_version_that_came_later_is_not_verified_before_the_next_check(world: Hierarchy) -> None:
    check(world)
    second_version(world)
    assert verified_at_top(world) == verified_at_client(world) == [1]
    check(world)
    assert verified_at_top(world) == [1, 2]


def test_a_version_that_was_removed_is_not_called_verified_for_ever(world: Hierarchy) -> None:
    second_version(world)
    check(world)
    oldest = world.restic("snapshots", "--json").split('"short_id":"')[1][:8]
    world.restic("forget", oldest)
    check(world)
    assert verified_at_top(world) == [2]


def test_a_receive_brings_back_what_a_storage_lost_and_tells_what_a_check_could_not(world: Hierarchy) -> None:
    client = world.client()
    folder = folder_id(client.identity.signing.public, "g")
    answer = world.chain().inbox / answer_name(folder, Answer.VERIFIED)
    chain = world.chain()
    chain.inbox.rename(chain.base / "away")
    notes = Recorder()
    check(world, reporter=notes)
    assert any("told what is verified by the next 'cdr receive'" in note for note in notes.notes)
    (chain.base / "away").rename(chain.inbox)
    for _ in range(2):
        second_version(world)
        assert answer.exists()
        answer.unlink()


def test_through_a_branch_the_client_learns_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"content")
    world = Hierarchy.make(tmp_path / "world", tmp_path / "source", branched=True)
    world.backup()
    world.deliver()
    check(world)
    world.branch_send()
    world.send()
    assert verified_at_client(world) == [1]


def test_an_answer_that_somebody_else_wrote_or_replays_changes_nothing(world: Hierarchy) -> None:
    client = world.client()
    answer = world.chain().inbox / answer_name(folder_id(client.identity.signing.public, "g"), Answer.VERIFIED)
    check(world)
    old = answer.read_bytes()
    second_version(world)
    check(world)
    world.send()
    assert verified_at_client(world) == [1, 2]
    reporter = Recorder()
    for data in (old, old[:-1], b"rubbish", b""):
        answer.write_bytes(data)
        world.send(reporter)
        assert verified_at_client(world) == [1, 2]
    assert len(reporter.errors) >= 3


# --- the part that is read ---


def test_the_parts_that_are_read_cover_every_pack(world: Hierarchy) -> None:
    for number in range(6):
        (world.source / f"more{number}").write_bytes(WORDS.randbytes(20_000))
        world.backup()
        world.deliver()
    everything = len(packs(world))
    assert everything >= 10
    found = [check(world, "25%") for _ in range(4)]
    assert [one.note.part for one in found] == [1, 2, 3, 4]
    assert sum(one.note.packs_read for one in found) == everything
    with CareState(world.chain().top.state_folder) as care:
        since_s = care.all_read_since_s()
    assert since_s == int(found[0].note.began_s)
    assert check(world, "25%").note.part == 1


def test_damage_in_any_pack_is_found_within_a_round(world: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_plugin.top.checking.read_sample", lambda *_: ())  # chance might find it earlier
    damaged = second_version(world)
    change_byte(damaged)
    mine = int(damaged.name[:2], 16) % 5 + 1
    for part in range(1, mine):
        assert check(world, "1/5").is_clean, part
    assert not check(world, "1/5").is_clean


# --- damage ---


def test_versions_that_reach_damage_lose_it_and_others_keep_it(world: Hierarchy, events: list[Event]) -> None:
    damaged = second_version(world)
    check(world)
    world.send()
    change_byte(damaged)
    found = check(world, "100%")
    assert not found.is_clean and (found.verified, found.lost) == (0, 1)
    assert found.broken_packs == (damaged.name,)
    (failure,) = (event for event in events if event.name == "failure")
    assert (failure.tier, failure.facts["what"], failure.facts["group"]) == ("hq", "check", "g")
    assert verified_at_top(world) == [1]
    world.send()
    assert verified_at_client(world) == [1]


@pytest.mark.parametrize("subset", ["20%", "1K", ""])
def test_damage_that_was_found_is_looked_at_again_until_it_is_mended(
    world: Hierarchy, subset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = second_version(world)
    sound = damaged.read_bytes()
    change_byte(damaged)
    assert not check(world, "100%").is_clean
    monkeypatch.setattr("cdr_plugin.top.checking.read_sample", lambda *_: ())  # chance might find it as well
    for _ in range(6):
        found = check(world, subset)
        assert not found.is_clean
    assert verified_at_top(world) == []
    damaged.write_bytes(sound)
    assert check(world, subset).is_clean
    assert verified_at_top(world) == [1, 2]


def test_a_pack_that_is_gone_is_found_without_reading_any(world: Hierarchy) -> None:
    check(world)
    second = second_version(world)
    check(world)
    second.unlink()
    found = check(world)
    assert (found.is_clean, found.lost) == (False, 1)
    assert verified_at_top(world) == [1]


def test_the_sampled_restore_alone_finds_damage_in_what_it_reads(world: Hierarchy) -> None:
    for path in packs(world):
        if path.stat().st_size > 10_000:
            change_byte(path)
    found = check(world)  # no pack is read by the check itself
    assert not found.is_clean and "restoring " in found.note.problem
    assert verified_at_top(world) == []


def test_a_snapshot_that_cannot_be_read_leaves_nothing_verified(world: Hierarchy) -> None:
    second_version(world)
    check(world)
    snapshot = next((world.chain().repository / "snapshots").iterdir())
    snapshot.chmod(0o600)
    snapshot.write_bytes(snapshot.read_bytes()[:-1])
    assert not check(world).is_clean
    assert verified_at_top(world) == []


def test_restic_agrees_with_the_scheduled_check(world: Hierarchy) -> None:
    damaged = second_version(world)
    assert check(world, "100%").is_clean
    world.check()
    change_byte(damaged)
    assert not check(world, "100%").is_clean
    with pytest.raises(AssertionError):
        world.restic("check", "--read-data")


# --- kills ---


def test_a_check_killed_at_any_durable_operation_is_repeated_and_ends_the_same(
    world: Hierarchy, tmp_path: Path
) -> None:
    second_version(world)
    check(world, "50%")  # the database is there
    at = 0
    while True:
        at += 1
        other = world.copy(tmp_path / f"killed{at}")
        counted = kill_at(at, lambda other=other: check(other, "50%"))  # type: ignore[misc]
        found = check(other, "50%")
        assert found.is_clean and found.note.part in (1, 2)
        assert verified_at_top(other) == [1, 2]
        other.send()
        assert verified_at_client(other) == [1, 2]
        if not counted.killed:
            break
    assert at > 5
