"""A tier that moves segments unopened: over any transport, within its limits, whatever is cut."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.errors import RemoteError, StorageFullError
from cdr_plugin.files import TEMPORARY_PREFIX
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.intermediate.tier import IntermediateTier
from cdr_plugin.parcel.head import Head, HeadParcel, write_head
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id, head_name, plain_room_name, segment_name
from cdr_plugin.parcel.room import Room, write_plain_room
from cdr_plugin.reporter import Reporter
from cdr_plugin.transports.faults import Fault, Kind
from tests.support.chain import Recorder
from tests.support.elsewhere import SCHEME, Far, FarPlugins
from tests.support.hierarchy import Hierarchy, make_quick

KEY = SigningKey.generate()
FOLDER = folder_id(KEY.public, "g")
OLD, NEW = bytes(16), b"\x01" * 16
"""Parcels; by name the second comes last."""


@pytest.fixture
def plugins() -> FarPlugins:
    return FarPlugins()


@pytest.fixture
def mover(tmp_path: Path, plugins: FarPlugins) -> IntermediateTier:
    """Two inboxes and two storages above, all of them elsewhere."""
    one, two, above, other = (tmp_path / name for name in ("one", "two", "above", "other"))
    for folder in (above, other):
        folder.mkdir()
    tier = IntermediateTier(
        "mover",
        tmp_path / "state",
        [f"{SCHEME}{one}", f"{SCHEME}{two}"],
        f"{SCHEME}{above}",
        plugins,
        also_to=[f"{SCHEME}{other}"],
    )
    tier.init()
    return tier


def write(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def head(serial: int, *parcels: bytes) -> bytes:
    return write_head(Head(serial, [HeadParcel(one, 3, True) for one in parcels]), KEY, group="g", issued_s=1)


def segments(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("clients/*/*/*"))


# --- taking ---


def test_an_inbox_elsewhere_is_emptied_over_its_transport(mover: IntermediateTier, tmp_path: Path) -> None:
    name = segment_name(FOLDER, OLD, 0)
    write(tmp_path / "one", name, b"sealed")
    write(tmp_path / "one", head_name(FOLDER), head(1, OLD))
    moved = mover.receive(Reporter())
    assert (moved.segments, moved.bytes, moved.failures) == (1, 6, 0)
    assert segments(tmp_path / "one") == []
    assert (mover.spool / name).read_bytes() == b"sealed"
    mover.send(Reporter())
    assert segments(tmp_path / "above") == [name]
    assert (tmp_path / "above" / head_name(FOLDER)).read_bytes() == head(1, OLD)
    assert mover.queue() == (0, 0)


def test_what_is_not_whole_stays_where_it_is(
    mover: IntermediateTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "one", segment_name(FOLDER, OLD, 0), b"sealed")
    write(tmp_path / "one", head_name(FOLDER), head(1, OLD))
    real = Far.list

    def longer(self: Far, folder: str = "") -> Iterator[ObjectInfo]:
        return (replace(info, size=info.size + 1) for info in real(self, folder))

    with monkeypatch.context() as patch:
        patch.setattr(Far, "list", longer)
        assert mover.receive(Reporter()).segments == 0
    assert path.exists()
    assert not (mover.spool / head_name(FOLDER)).exists()  # it names what is not here
    assert list(mover.spool.glob(f"{TEMPORARY_PREFIX}*")) == []
    assert mover.receive(Reporter()).segments == 1


def test_an_inbox_that_fails_does_not_stop_the_others_but_heads_wait(
    mover: IntermediateTier, plugins: FarPlugins, tmp_path: Path
) -> None:
    for inbox, index in (("one", 0), ("two", 1)):
        write(tmp_path / inbox, segment_name(FOLDER, OLD, index), b"sealed")
        write(tmp_path / inbox, head_name(FOLDER), head(1, OLD))
    plugins.faults.append(Fault(Kind.BEFORE, "get_file", segment_name(FOLDER, OLD, 0)))
    recorder = Recorder()
    moved = mover.receive(recorder)
    assert (moved.segments, moved.failures, len(recorder.errors)) == (1, 1, 1)
    assert not (mover.spool / head_name(FOLDER)).exists()
    shutil.move(tmp_path / "two", tmp_path / "away")
    assert mover.receive(recorder).failures == 1
    assert not (mover.spool / head_name(FOLDER)).exists()
    shutil.move(tmp_path / "away", tmp_path / "two")
    assert mover.receive(recorder).failures == 0
    assert (mover.spool / head_name(FOLDER)).exists()
    for name in ("one", "two"):
        shutil.rmtree(tmp_path / name)
    with pytest.raises(RemoteError):
        mover.receive(recorder)


def test_no_more_is_taken_than_fits_and_no_head_names_what_was_left(
    mover: IntermediateTier, tmp_path: Path
) -> None:
    mover.spool_limit = 25
    for index in range(3):
        write(tmp_path / "one", segment_name(FOLDER, OLD, index), bytes(10))
    write(tmp_path / "one", head_name(FOLDER), head(1, OLD))
    moved = mover.receive(Reporter())
    assert (moved.segments, mover.queue()) == (2, (2, 20))
    assert moved.waiting_for == "waiting for room in the spool (spool.max_size), which 'cdr send' makes"
    assert len(segments(tmp_path / "one")) == 1
    mover.send(Reporter())
    assert not (tmp_path / "above" / head_name(FOLDER)).exists()
    moved = mover.receive(Reporter())
    assert (moved.segments, moved.waiting_for) == (1, "")
    mover.send(Reporter())
    assert (tmp_path / "above" / head_name(FOLDER)).exists()
    mover.spool_limit = 1
    write(tmp_path / "one", segment_name(FOLDER, OLD, 3), bytes(10))
    assert mover.receive(Reporter()).segments == 1  # larger than the limit by itself


def test_of_a_shared_folder_no_head_goes_up_before_all_of_it_is_taken(
    mover: IntermediateTier, tmp_path: Path
) -> None:
    """It does not tell whose the rest is."""
    mover.spool_limit = 15
    for index in range(2):
        write(tmp_path / "one", f"shared/{OLD.hex()}/{index:08x}", bytes(10))
    write(tmp_path / "one", f"groups/{'0' * 32}/{FOLDER}/head", head(1, OLD))
    assert mover.receive(Reporter()).segments == 1
    assert not list(mover.spool.glob("groups/*/*/head"))
    mover.send(Reporter())
    assert mover.receive(Reporter()).segments == 1
    mover.send(Reporter())
    assert len(list((tmp_path / "above").glob("shared/*/*"))) == 2
    assert len(list((tmp_path / "above").glob("groups/*/*/head"))) == 1


def test_a_full_disk_below_is_waited_for(mover: IntermediateTier, plugins: FarPlugins, tmp_path: Path) -> None:
    write(tmp_path / "one", segment_name(FOLDER, OLD, 0), bytes(10))
    plugins.faults.append(Fault(Kind.BEFORE, "get_file", error=StorageFullError("no space left")))
    moved = mover.receive(Reporter())
    assert moved.waiting_for == "waiting for room in the spool: no space left"
    assert len(segments(tmp_path / "one")) == 1
    assert mover.receive(Reporter()).segments == 1


# --- sending ---


def spooled(mover: IntermediateTier, **sizes: int) -> None:
    """Segments of two parcels of one client, whose head names the newer one first."""
    for which, size in sizes.items():
        parcel = {"old": OLD, "new": NEW}[which[:3]]
        write(mover.spool, segment_name(FOLDER, parcel, int(which[3:])), bytes(size))
    write(mover.spool, head_name(FOLDER), head(9, NEW, OLD))


def test_what_the_head_names_first_goes_first_and_may_use_the_reserve(
    mover: IntermediateTier, tmp_path: Path
) -> None:
    spooled(mover, old0=10, new0=10, new1=10)
    note = Room(limit=1000, used=0, ignored=0, time_s=int(time.time()))
    write(tmp_path / "above", plain_room_name(), write_plain_room(note))
    stays = write(tmp_path / "above", segment_name("0" * 32, OLD, 0), bytes(960))
    moved = mover.send(Reporter())
    assert moved.segments == 2
    assert moved.waiting_for.startswith("waiting for room in the inbox (")
    assert segments(mover.spool) == [segment_name(FOLDER, OLD, 0)]
    assert not (tmp_path / "above" / head_name(FOLDER)).exists()
    stays.unlink()
    assert mover.send(Reporter()).waiting_for == ""
    assert (tmp_path / "above" / head_name(FOLDER)).exists()


def test_a_full_storage_above_is_waited_for(mover: IntermediateTier, plugins: FarPlugins) -> None:
    spooled(mover, old0=10, new0=10)
    plugins.faults.append(Fault(Kind.BEFORE, "put_file", skip=1, error=StorageFullError("no space left")))
    moved = mover.send(Reporter())
    assert (moved.segments, moved.waiting_for) == (1, "waiting for room in the storage above: no space left")
    assert mover.send(Reporter()).segments == 1


def test_a_torn_object_above_is_put_over_and_anothers_is_not(mover: IntermediateTier, tmp_path: Path) -> None:
    spooled(mover, old0=10, new0=10, new1=10)
    torn = write(tmp_path / "above", segment_name(FOLDER, OLD, 0), bytes(3))
    squatted = write(tmp_path / "above", segment_name(FOLDER, NEW, 0), b"squatted")
    recorder = Recorder()
    assert mover.send(recorder).segments == 2
    assert torn.read_bytes() == bytes(10)
    assert squatted.read_bytes() == b"squatted"
    assert len(recorder.errors) == 1
    squatted.unlink()  # the tier above has thrown it out
    assert mover.send(recorder).segments == 1


def test_the_first_storage_that_answers_is_used_and_every_one_gets_the_head(
    mover: IntermediateTier, tmp_path: Path
) -> None:
    shutil.move(tmp_path / "above", tmp_path / "away")
    spooled(mover, old0=10)
    mover.send(Reporter())
    assert len(segments(tmp_path / "other")) == 1
    shutil.move(tmp_path / "away", tmp_path / "above")
    spooled(mover, old1=10)
    mover.send(Reporter())
    assert (segments(tmp_path / "above"), len(segments(tmp_path / "other"))) == ([segment_name(FOLDER, OLD, 1)], 1)
    for storage in ("above", "other"):
        assert (tmp_path / storage / head_name(FOLDER)).exists()


def test_of_two_answers_the_one_that_changed_last_comes_down(mover: IntermediateTier, tmp_path: Path) -> None:
    name = answer_name(FOLDER, Answer.RECEIPT)

    def below() -> set[bytes]:
        assert mover.send(Reporter()).answers in (0, 2)
        return {(tmp_path / inbox / name).read_bytes() for inbox in ("one", "two")}

    write(tmp_path / "above", name, b"first")
    assert below() == {b"first"}
    write(tmp_path / "other", name, b"second")
    assert below() == {b"second"}
    assert below() == {b"second"}  # the older one above did not come back
    write(tmp_path / "above", name, b"third")
    assert below() == {b"third"}
    (tmp_path / "one" / name).unlink()
    (tmp_path / "two" / name).unlink()
    assert below() == {b"third"}


# --- four levels ---


class Chained:
    """A client, three movers, one above the other, and the top tier; every link but the top's own is elsewhere."""

    def __init__(self, world: Hierarchy, plugins: FarPlugins) -> None:
        self.world = world
        self.plugins = plugins
        places = [f"{SCHEME}{world.base}/inbox{level}" for level in range(3)]
        self.links = [*places, f"{SCHEME}{world.chain().inbox}"]
        self.movers = [
            IntermediateTier(f"m{level}", world.base / f"m{level}", [self.links[level]], self.links[level + 1], plugins)
            for level in range(3)
        ]
        for mover in self.movers:
            mover.init()

    def client(self) -> ClientTier:
        return replace(self.world.client(), to=self.links[0], plugins=self.plugins)

    def send(self) -> None:
        client = self.client()
        try:
            self.world.chain().send(client)
        finally:
            client.state.close()

    def steps(self) -> list[Callable[[], object]]:
        """What carries a version up, in order."""
        moves = [partial(step, Reporter()) for mover in self.movers for step in (mover.receive, mover.send)]
        return [self.send, *moves, self.world.receive]


@pytest.mark.parametrize("seed", range(1))
def test_four_levels_with_links_cut_at_random_end_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plugins: FarPlugins, seed: int
) -> None:
    make_quick(monkeypatch)
    chance = random.Random(seed)
    source = tmp_path / "source"
    source.mkdir()
    world = Hierarchy.make(tmp_path / "world", source)
    chained = Chained(world, plugins)
    kinds = [Kind.BEFORE, Kind.AFTER, Kind.CUT]
    cuts = 0
    for day in range(4):
        (source / f"day {day}").write_bytes(chance.randbytes(60_000))
        world.backup()
        for _ in range(16):
            step = chance.choice(chained.steps())
            fault = Fault(chance.choice(kinds), skip=chance.randrange(12), keep_bytes=8192)
            plugins.faults[:] = [fault]
            try:
                step()
            except RemoteError:
                pass
            cuts += not plugins.faults
    plugins.faults.clear()
    for _ in range(3):
        for step in [*chained.steps(), *chained.steps()[-2::-1]]:
            step()
    assert world.snapshots() == world.versions()
    assert set(world.committed()) == set(world.versions())
    assert world.snapshots()[4] == world.source_tree()
    assert cuts > 10
    for url in chained.links:
        assert segments(Path(url.removeprefix(SCHEME))) == []
        again = sum(count - 1 for (where, name), count in plugins.puts.items() if where == url and name.count("/") == 3)
        assert again <= cuts
    assert sum(count - 1 for (_, name), count in plugins.puts.items() if name.count("/") == 3) <= cuts
    world.check()

