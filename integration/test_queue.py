"""The transfer queue: limits, recipes, answers, replacement, release, several storages. Stock restic judges the ends."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import StorageFullError
from cdr_plugin.parcel.builder import SegmentBuilder
from tests.support.chain import Recorder
from tests.support.changing import change_small, small_tree
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
