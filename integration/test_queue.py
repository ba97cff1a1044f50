"""The transfer queue: limits, recipes, answers, replacement, release, storages. Stock restic judges the ends."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.client import room
from cdr_plugin.client.backup import BackupOptions, BackupResult, _Run, backup
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.rows import SegmentRow
from cdr_plugin.client.send import send
from cdr_plugin.client.spooler import SpoolCounts
from cdr_plugin.client.states import SegmentState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import NotConvenientError, RemoteError, StorageFullError
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.naming import folder_id, segment_name
from tests.support.chain import Chain, Recorder
from tests.support.changing import change_small, small_tree
from tests.support.crashing import beside, has_ended
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory

SEGMENT = 16 * 1024
IN_FLIGHT = 5 * (SEGMENT * 5 // 4 + 4096)


@dataclass
class Limited(Hierarchy):
    """A hierarchy whose client has other settings than the usual ones."""

    settings: dict[str, Any] = field(default_factory=dict)

    def client(self) -> ClientTier:
        return replace(super().client(), **self.settings)

    def copy(self, base: Path) -> Limited:
        super().copy(base)
        return replace(self, base=base, settings=dict(self.settings))

    def backup_unless_unchanged(self) -> BackupResult:
        client = self.client()
        try:
            return backup(client, BackupOptions(archive=self._options(), skip_if_unchanged=True), Recorder())
        finally:
            client.state.close()

    def spooled_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.client().spool.iterdir())

    def unplug(self) -> None:
        self.chain().inbox.rename(self.base / "unplugged")

    def plug(self) -> None:
        (self.base / "unplugged").rename(self.chain().inbox)


@pytest.fixture
def quick_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_quick(monkeypatch, segment_bytes=SEGMENT)
    monkeypatch.setattr("cdr_plugin.client.answers.SegmentBuilder", partial(SegmentBuilder, target=SEGMENT))
    with folder_in_memory() as folder:
        yield folder


def started(path: Path, **settings: Any) -> Limited:
    """One version committed, and the source changed since."""
    small_tree(path / "src")
    made = Limited.make(path / "world", path / "src")
    made.backup()
    made.deliver()
    made.assert_settled()
    made.settings = settings
    change_small(made.source)
    return made


def many_blobs(folder: Path, seed: int, count: int = 60, size: int = 5000) -> None:
    source = random.Random(seed)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        (folder / f"{seed}-{number}").write_bytes(source.randbytes(size))


def assert_ends_well(world: Limited) -> None:
    tree = world.source_tree()
    for _ in range(3):
        world.deliver()
    assert world.snapshots()[max(world.versions())] == tree
    world.assert_settled()
    world.check()
    world.assert_restores(world.base / "restored")


# --- the limit ---


def test_a_version_larger_than_the_spool_streams(quick_path: Path) -> None:
    limit = 6 * SEGMENT
    world = started(quick_path, spool_limit=limit)
    many_blobs(world.source / "many", 1)
    assert world.backup().spool.spooled_bytes > 2 * limit
    assert world.spooled_bytes() <= limit + IN_FLIGHT
    assert world.client().state.holdings.resting()[0] > 0
    assert_ends_well(world)


def test_what_rests_on_recipes_is_answered_from_the_source(quick_path: Path) -> None:
    world = started(quick_path, spool_limit=6 * SEGMENT)
    many_blobs(world.source / "many", 1)
    world.backup()
    world.send()
    gone = sorted(path for path in world.chain().inbox.glob("clients/*/*/*"))[:3]
    for path in gone:
        path.unlink()
    tree = world.source_tree()
    for _ in range(3):
        world.receive()
        world.send()
    assert max(world.versions()) == 2
    assert world.snapshots()[2] == tree
    assert_ends_well(world)


def test_without_connection_a_waiting_version_is_replaced(quick_path: Path) -> None:
    world = started(quick_path, spool_limit=30 * SEGMENT)
    world.unplug()
    many_blobs(world.source / "many", 1)
    world.backup()
    for path in (world.source / "many").iterdir():
        path.unlink()
    many_blobs(world.source / "many", 2)
    reporter = Recorder()
    assert world.backup(reporter).version == 2
    assert any("version 2" in note and "replaced" in note for note in reporter.notes)
    world.plug()
    assert_ends_well(world)
    assert set(world.versions()) == {1, 2}


def test_with_nothing_to_replace_the_run_ends_and_costs_no_byte_twice(quick_path: Path) -> None:
    world = started(quick_path, spool_limit=8 * SEGMENT)
    many_blobs(world.source / "many", 1)
    undisturbed = world.copy(quick_path / "other")
    undisturbed.settings = {}
    whole = undisturbed.backup().spool.spooled_bytes
    world.unplug()
    with pytest.raises(StorageFullError, match="no room in the spool") as raised:
        world.backup()
    assert raised.value.exit_code == 75
    known = world.spooled_bytes()
    assert known > 4 * SEGMENT
    world.plug()
    world.settings = {}
    assert world.backup().spool.spooled_bytes + known <= whole + 3 * SEGMENT
    assert_ends_well(world)


def test_a_version_that_would_not_fit_either_replaces_nothing(quick_path: Path) -> None:
    world = started(quick_path, spool_limit=10 * SEGMENT)
    world.unplug()
    world.backup()
    many_blobs(world.source / "many", 1)
    with pytest.raises(StorageFullError):
        world.backup()
    assert set(world.versions()) == {1, 2}
    world.plug()
    world.backup()
    assert_ends_well(world)


def test_what_would_fit_is_judged_by_a_run_that_found_nothing_new(quick_path: Path) -> None:
    world = started(quick_path)
    client = world.client()
    run = _Run(client, BackupOptions(archive=world._options()), Recorder(), room.Room(client, lambda: False))
    for counts in (SpoolCounts(), SpoolCounts(spooled_bytes=500), SpoolCounts(data_added=500)):
        run.counts = counts
        assert run.fits_within(1 << 30, KnownBlobs(), None)
        assert not run.fits_within(1000, KnownBlobs(), None)
    client.state.close()


def test_what_has_begun_to_travel_is_not_replaced(quick_path: Path) -> None:
    world = started(quick_path, spool_limit=30 * SEGMENT)
    many_blobs(world.source / "many", 1)
    world.backup()
    world.send()
    world.unplug()
    many_blobs(world.source / "many", 2, count=50)
    world.backup()
    many_blobs(world.source / "many", 3)
    with pytest.raises(StorageFullError):
        world.backup()
    assert set(world.versions()) == {1, 2, 3}
    world.plug()
    assert world.backup().version == 4
    assert_ends_well(world)


def test_no_more_is_spooled_when_the_disk_is_nearly_full(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = started(quick_path)
    many_blobs(world.source / "many", 1)
    world.unplug()
    full = 8 * SEGMENT
    monkeypatch.setattr(room, "_lacking_on_disk", lambda client, size: client.state.holdings.size() + size - full)
    with pytest.raises(StorageFullError):
        world.backup()
    assert world.spooled_bytes() <= full + IN_FLIGHT
    world.plug()
    world.backup()
    assert_ends_well(world)


def test_beside_another_sender_a_run_waits_for_what_that_one_sends(quick_path: Path) -> None:
    world = started(quick_path, spool_limit=4 * SEGMENT)
    many_blobs(world.source / "many", 1, count=20)
    with beside(world.backup) as child:
        while not has_ended(child):
            try:
                world.send()
            except NotConvenientError:
                pass  # the run sends itself
    assert_ends_well(world)


# --- answers ---


def lose_all(world: Limited) -> int:
    """The inbox loses what lies in it; how many segments."""
    gone = [path for path in world.chain().inbox.glob("clients/*/*/*") if path.is_file()]
    for path in gone:
        path.unlink()
    return len(gone)


def lose_what_is_pinned(world: Limited, meanwhile: Callable[[], object]) -> None:
    """A version's record comes late: what the top has stored of it before is pruned by somebody."""
    world.send()
    record = sorted(world.chain().inbox.glob("clients/*/*/*"))[-1]
    data = record.read_bytes()
    record.unlink()
    world.receive()
    for pin in json.loads(world.restic("snapshots", "--host", "cdr-pin", "--json")):
        world.restic("forget", pin["id"])
    world.restic("prune", "--max-unused", "0")
    meanwhile()
    record.parent.mkdir(parents=True, exist_ok=True)
    record.write_bytes(data)


def assert_second_version_arrives(world: Limited) -> None:
    reporter = Recorder()
    for _ in range(3):
        world.receive()
        world.send(reporter)
    assert any("blobs are missing above; they are sent again" in note for note in reporter.notes)
    assert reporter.errors == []
    assert world.snapshots()[2] == world.versions()[2]
    world.assert_settled()
    world.check()


def test_blobs_that_the_top_lost_come_from_held_segments_although_their_files_have_changed(quick_path: Path) -> None:
    world = started(quick_path)
    many_blobs(world.source / "many", 1)
    world.backup()
    lose_what_is_pinned(world, lambda: shutil.rmtree(world.source / "many"))
    assert_second_version_arrives(world)


def test_a_held_delta_is_decoded_where_nothing_else_has_the_blob(quick_path: Path) -> None:
    small_tree(quick_path / "src")
    world = Limited.make(quick_path / "world", quick_path / "src")
    world.methods = ("delta", "zstd")
    changing = world.source / "changing"
    changing.write_bytes(random.Random(3).randbytes(150_000))
    world.backup()
    world.deliver()
    shutil.copy(changing, world.source / "kept")
    with changing.open("r+b") as file:
        file.write(b"another start")
    many_blobs(world.source / "many", 1, count=4)
    assert world.backup().spool.spooled_bytes < 60_000
    lose_what_is_pinned(world, changing.unlink)
    assert_second_version_arrives(world)


def test_what_nobody_has_any_more_is_said_once_and_the_next_version_is_complete(quick_path: Path) -> None:
    world = started(quick_path, release="durable")
    world.backup()
    world.send()
    assert lose_all(world) > 3
    shutil.rmtree(world.client().state_folder / "baseline")
    for path in world.source.rglob("*"):
        if path.is_file() and path.stat().st_size > 10_000:
            path.write_bytes(path.read_bytes()[::-1])
    world.receive()
    reporter = Recorder()
    world.send(reporter)
    assert any("changed or gone here" in error for error in reporter.errors)
    for _ in range(3):
        world.receive()
        again = Recorder()
        world.send(again)
        assert not any("changed or gone here" in error for error in again.errors)
    generation = world.client().state.catalog_generation
    world.backup()
    for _ in range(3):
        world.deliver()
    assert world.snapshots()[3] == world.source_tree()
    assert world.client().state.catalog_generation == generation
    world.check()


def test_what_nobody_has_is_said_although_a_run_before_made_no_version(quick_path: Path) -> None:
    world = started(quick_path, release="durable")
    world.backup()
    world.send()
    assert world.backup_unless_unchanged().version is None
    lose_all(world)
    shutil.rmtree(world.client().state_folder / "baseline")
    for path in world.source.rglob("*"):
        if path.is_file() and path.stat().st_size > 10_000:
            path.write_bytes(path.read_bytes()[::-1])
    world.receive()
    reporter = Recorder()
    world.send(reporter)
    assert any("changed or gone here" in error for error in reporter.errors)


def test_a_name_that_somebody_has_taken_does_not_wedge_the_queue(quick_path: Path) -> None:
    world = started(quick_path)
    world.backup()
    client = world.client()
    rows = client.state.segments(SegmentState.SPOOLED)
    folder = folder_id(client.identity.signing.public, client.ticket.group)
    client.state.close()
    for row in (rows[0], rows[-1]):
        squatted = world.chain().inbox / segment_name(folder, row.parcel_id, row.index)
        squatted.parent.mkdir(parents=True, exist_ok=True)
        squatted.write_bytes(b"\1\1\1\0" + bytes(100))
    reporter = Recorder()
    world.send(reporter)
    assert sum("another object of its name" in error for error in reporter.errors) == 2
    assert_ends_well(world)


# --- release ---


@pytest.mark.parametrize("release", ["committed", "stored", "durable"])
def test_release_says_which_acknowledgement_frees_the_spool(quick_path: Path, release: str) -> None:
    world = started(quick_path, release=release)
    many_blobs(world.source / "many", 1, count=30)
    world.backup()
    assert world.spooled_bytes() > 0
    world.send()
    assert (world.spooled_bytes() == 0) == (release == "durable")
    last = sorted(world.chain().inbox.glob("clients/*/*/*"))[-1]
    kept = last.read_bytes()
    last.unlink()
    world.receive()  # all but the version's record
    if release != "committed":
        world.send()
        assert world.spooled_bytes() <= 8 * SEGMENT  # two large blobs span the others
    last.parent.mkdir(parents=True, exist_ok=True)
    last.write_bytes(kept)
    assert_ends_well(world)
    assert world.spooled_bytes() == 0


# --- several storages ---


@dataclass
class TwoInboxes(Limited):
    """The top tier reads two inboxes; the client prefers the second."""

    def chain(self) -> Chain:
        chain = super().chain()
        second = self.base / "second"
        second.mkdir(exist_ok=True)
        chain.top.inboxes = [str(chain.inbox), str(second)]
        return chain

    def client(self) -> ClientTier:
        return replace(super().client(), to=str(self.base / "second"), also_to=[str(self.chain().inbox)])


def test_segments_go_to_the_first_storage_that_answers_and_the_top_takes_the_union(quick_path: Path) -> None:
    plain = started(quick_path)
    world = TwoInboxes(plain.base, plain.source)
    world.backup()
    sent: list[str] = []

    def stop_after_two(row: SegmentRow) -> None:
        sent.append(row.sha256.hex())
        if len(sent) == 2:
            raise RemoteError("the link is cut")

    client = world.client()
    with pytest.raises(RemoteError):
        send(client, Recorder(), stop_after_two)
    reporter = Recorder()
    moved_on = replace(world.client(), to=str(world.base / "nowhere"))
    send(moved_on, reporter)
    assert any("another storage is used" in note for note in reporter.notes)
    reporter = Recorder()
    world.receive(reporter)
    assert reporter.errors == []
    world.send(reporter)
    assert reporter.errors == []
    assert world.snapshots()[2] == world.source_tree()
    world.assert_settled()
    world.check()
