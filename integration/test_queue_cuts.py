"""A link that is cut at every operation, and kills at every durable one: the end is that of an undisturbed run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cdr_plugin.contracts import Settings, Transport, Travelled
from cdr_plugin.errors import RemoteError
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.naming import SegmentName, parse_name
from cdr_plugin.plugins import Plugins
from cdr_plugin.transports.faults import Fault, FaultyTransport, Kind
from integration.test_queue import SEGMENT, Limited, many_blobs, quick_path, started
from tests.support.crashing import kill_at

__all__ = ["quick_path"]

_LARGEST = SEGMENT * 5 // 4 + 4096
"""Bytes of a sealed segment."""


class _Link(Plugins):
    """The installed plugins; the first storage that is opened fails as planned, and all segments are counted."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__()
        self.faults = list(faults)
        self.put_bytes = 0

    def transport(self, url: str, settings: Settings | None = None, *, create: bool = False) -> Transport:
        return _Counted(super().transport(url, settings, create=create), self)


class _Counted(FaultyTransport):
    def __init__(self, inner: Transport, link: _Link) -> None:
        super().__init__(inner)
        self._faults = link.faults
        self._link = link

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        self._link.put_bytes += path.stat().st_size
        return super().put_file(name, path, moved)

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        self._link.put_bytes += memoryview(data).nbytes if isinstance(parse_name(name), SegmentName) else 0
        super().put(name, data, overwrite=overwrite)

    def check_all_fired(self) -> None:
        """The sweep looks whether its fault has."""


def _send(world: Limited, link: _Link) -> None:
    world.settings = {**world.settings, "plugins": link}
    try:
        world.send()
    except RemoteError:
        pass
    finally:
        del world.settings["plugins"]


def _settle(world: Limited, link: _Link, tree: bytes) -> None:
    """Runs as a timer would start them, until the version is committed as both ends see it."""
    for _ in range(5):
        _send(world, link)
        if world.committed().get(max(world.versions())) == tree:
            break
        world.receive()
    assert world.snapshots()[max(world.versions())] == tree
    world.assert_settled()


def _with_losses(path: Path) -> Limited:
    """A version of which a part rests on recipes; the inbox has lost segments, and the receipt says so."""
    world = started(path, spool_limit=8 * SEGMENT)
    many_blobs(world.source / "many", 1, count=40)
    world.backup()
    world.send()
    objects = sorted(world.chain().inbox.glob("clients/*/*/*"))
    for lost in (objects[1], objects[5], objects[-2]):
        lost.unlink()
    world.receive()
    return world


def _waiting(path: Path) -> Limited:
    world = started(path)
    world.backup()
    return world


def _streaming(path: Path) -> Limited:
    """A version that is larger than the spool is about to be made."""
    world = started(path, spool_limit=3 * SEGMENT)
    many_blobs(world.source / "many", 1, count=3)
    return world


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER, Kind.TORN], ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize("make", [_waiting, _with_losses])
def test_a_cut_at_any_operation_costs_one_segment_at_most(
    quick_path: Path, make: Callable[[Path], Limited], kind: Kind
) -> None:
    start = make(quick_path)
    tree = start.source_tree()
    undisturbed = _Link()
    _settle(start.copy(quick_path / "undisturbed"), undisturbed, tree)
    cuts = 0
    while True:
        world = start.copy(quick_path / f"cut{cuts}")
        link = _Link(Fault(kind, skip=cuts, keep_bytes=50))
        _send(world, link)
        if link.faults:
            break
        _settle(world, link, tree)
        assert link.put_bytes <= undisturbed.put_bytes + _LARGEST
        shutil.rmtree(world.base)
        cuts += 1
    print(f"{make.__name__}, {kind.name}: {cuts} cuts")
    assert cuts >= 8 or kind is Kind.TORN
    start.check()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "action"), [(_with_losses, Limited.send), (_streaming, Limited.backup)]
)
def test_a_kill_at_any_durable_operation_changes_nothing_in_the_end(
    quick_path: Path, make: Callable[[Path], Limited], action: Callable[[Limited], object]
) -> None:
    start = make(quick_path)
    tree = start.source_tree()
    kills = 0
    while True:
        world = start.copy(quick_path / f"kill{kills}")
        outcome = kill_at(kills + 1, lambda world=world: action(world))
        if tree not in world.versions().values():
            world.backup()
        _settle(world, _Link(), tree)
        shutil.rmtree(world.base)
        if not outcome.killed:
            break
        kills += 1
    print(f"{make.__name__}: {kills} kills")
    assert kills > 10
