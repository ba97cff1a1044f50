"""State and storage that are lost, damaged, full or failing: nothing is lost, the end state is the same."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from cdr_plugin.client.state import ClientState
from cdr_plugin.errors import RemoteError, StorageFullError
from cdr_plugin.transports.faults import Fault, Kind
from tests.support.chain import Recorder
from tests.support.changing import change_small, many_files, small_tree
from tests.support.crashing import beside, has_ended
from tests.support.faulty import FaultyPlugins
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory


@pytest.fixture
def quick_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def world(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    """No branch, one version committed, the source changed since."""
    return _started(quick_path, monkeypatch, branched=False)


@pytest.fixture
def branched(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    return _started(quick_path, monkeypatch, branched=True)


def _started(path: Path, monkeypatch: pytest.MonkeyPatch, *, branched: bool) -> Hierarchy:
    make_quick(monkeypatch)
    small_tree(path / "src")
    made = Hierarchy.make(path / "world", path / "src", branched=branched)
    made.backup()
    made.deliver()
    made.assert_settled()
    change_small(made.source)
    return made


def assert_ends_well(world: Hierarchy, tree: bytes) -> None:
    """The newest version is ``tree`` and committed; restic agrees with everything."""
    assert world.snapshots()[max(world.versions())] == tree
    world.assert_settled()
    world.check()
    world.assert_restores(world.base / "restored")


def segments_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("clients/*/*/*") if path.is_file())


def spooled(world: Hierarchy) -> list[Path]:
    return sorted(path for path in world.client().spool.iterdir())


# --- receiving while the version is made ---


def test_prune_in_the_middle_of_a_version_loses_nothing(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child makes the version and stops after every few segments; meanwhile those are sent, taken
    and pinned, and restic prunes."""
    make_quick(monkeypatch, segment_bytes=256 * 1024, checkpoint_bytes=1024 * 1024)
    source = quick_path / "src"
    many_files(source, random.Random(3), files=120)
    world = Hierarchy.make(quick_path / "world", source)
    stopped, go_on = os.pipe(), os.pipe()
    _stop_between_segments(monkeypatch, stopped[1], go_on[0], every=3)

    def make_version() -> None:
        world.backup()
        os.write(stopped[1], b"e")

    stops, pinned = 0, 0
    with beside(make_version):
        while os.read(stopped[0], 1) == b"s":
            stops += 1
            world.send()
            world.receive()
            assert world.snapshots() == {}
            pins = world.restic("snapshots", "--host", "cdr-pin", "--json")
            pinned += pins.count('"tree"')
            world.restic("forget", "--host", "nobody", "--keep-last", "1")
            world.restic("prune", "--max-unused", "0")
            os.write(go_on[1], b"g")
    assert stops > 2 and stops - pinned <= 1  # one blob may span all segments before the first stop
    world.deliver()
    assert '"tree"' not in world.restic("snapshots", "--host", "cdr-pin", "--json")
    assert_ends_well(world, world.source_tree())
    world.assert_restic_agrees()


def _stop_between_segments(monkeypatch: pytest.MonkeyPatch, stopped: int, go_on: int, *, every: int) -> None:
    real, count = ClientState.add_segment, iter(range(1, 1 << 30))

    def add_segment(state: ClientState, *values: int | bytes) -> None:
        real(state, *values)  # type: ignore[arg-type]
        if next(count) % every == 0:
            os.write(stopped, b"s")
            os.read(go_on, 1)

    monkeypatch.setattr(ClientState, "add_segment", add_segment)


def test_a_receiver_beside_sender_and_backup_takes_segments_as_they_come(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch, segment_bytes=256 * 1024, checkpoint_bytes=1024 * 1024)
    source = quick_path / "src"
    many_files(source, random.Random(4))
    world = Hierarchy.make(quick_path / "world", source, branched=True)
    reporter = Recorder()
    with beside(world.backup) as backup, beside(partial(_send_until_ended, world, backup)) as sending:
        while not has_ended(sending):
            world.branch_receive(reporter)
            world.branch_send(reporter)
            world.receive(reporter)
    world.deliver()
    assert reporter.errors == []
    assert_ends_well(world, world.source_tree())


def _send_until_ended(world: Hierarchy, other: int) -> None:
    ended = False
    while not ended:
        ended = has_ended(other)
        reporter = Recorder()
        world.send(reporter)
        assert reporter.errors == []


# --- lost and damaged ---


def test_the_top_goes_on_without_its_state(world: Hierarchy) -> None:
    for number in range(3):
        (world.source / f"version{number}").write_text(f"{number}")
        world.backup()
        world.deliver()
        shutil.rmtree(world.chain().top.state_folder)
    change_small(world.source)
    world.backup()
    world.deliver()
    assert_ends_well(world, world.source_tree())


def test_state_lost_in_the_middle_of_a_version_is_asked_for_again(world: Hierarchy) -> None:
    world.backup()
    world.send()
    kept = segments_in(world.chain().inbox)
    aside = [(path, path.read_bytes()) for path in kept[-2:]]
    for path, _ in aside:
        path.unlink()
    world.receive()
    shutil.rmtree(world.chain().top.state_folder)
    for path, data in aside:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    world.receive()
    world.deliver()
    world.deliver()
    assert_ends_well(world, world.source_tree())


def test_segments_and_receipts_delivered_again_change_nothing(world: Hierarchy) -> None:
    world.backup()
    world.send()
    inbox = world.chain().inbox
    before = {path.relative_to(inbox): path.read_bytes() for path in inbox.rglob("*") if path.is_file()}
    world.receive()
    world.send()
    packs = set((world.chain().repository / "data").rglob("*"))
    snapshots = world.snapshots()
    shutil.rmtree(inbox / "answers")
    for name, data in before.items():
        (inbox / name).parent.mkdir(parents=True, exist_ok=True)
        (inbox / name).write_bytes(data)
    world.receive()
    world.deliver()
    assert world.snapshots() == snapshots
    assert set((world.chain().repository / "data").rglob("*")) == packs
    assert_ends_well(world, world.source_tree())


def _remove(path: Path) -> None:
    path.unlink()


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.unlink()  # a hard link of it may be in the storage
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [_remove, _flip])
@pytest.mark.parametrize("which", [0, 1, -2, -1])
def test_a_harmed_spool_file_is_named_and_read_again(
    world: Hierarchy, harm: Callable[[Path], None], which: int
) -> None:
    world.backup()
    harmed = spooled(world)[which]
    harm(harmed)
    reporter = Recorder()
    world.send(reporter)
    assert [error for error in reporter.errors if harmed.name in error]
    world.receive()
    world.send()
    for _ in range(2):
        world.backup()
        world.deliver()
    assert_ends_well(world, world.source_tree())


def test_spool_files_harmed_again_and_again_leave_no_gap(world: Hierarchy) -> None:
    """What a file held then is lost for good; the versions after it are not held up."""
    for number in range(3):
        (world.source / "number").write_text(f"{number}")
        world.backup()
        _remove(spooled(world)[-1])
        world.send()
    world.backup()
    world.deliver()
    assert set(world.versions()) == {1, 2, 3, 4, 5}
    assert {1, 5} <= world.snapshots().keys()
    assert world.snapshots()[5] == world.source_tree()
    world.assert_nothing_on_the_way()
    world.assert_no_blob_twice()
    world.check()


@pytest.mark.parametrize("branch", [False, True])
@pytest.mark.parametrize("which", [0, 2, -1])
def test_a_segment_gone_from_the_inbox_is_named_and_sent_again(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, branch: bool, which: int
) -> None:
    world = _started(quick_path, monkeypatch, branched=branch)
    world.backup()
    world.send()
    gone = segments_in(world.chain().lower)[which]
    gone.unlink()
    world.deliver()
    reporter = Recorder()
    world.send(reporter)
    world.deliver()
    assert_ends_well(world, world.source_tree())


def test_the_receipt_names_a_segment_that_is_gone(world: Hierarchy) -> None:
    world.backup()
    world.send()
    gone = segments_in(world.chain().inbox)[1]
    gone.unlink()
    world.receive()
    reporter = Recorder()
    world.send(reporter)
    label = f"{gone.parent.name[:12]}/{gone.name}"
    assert [error for error in reporter.errors if label in error], (reporter.errors, label)
    world.deliver()
    assert_ends_well(world, world.source_tree())


@pytest.mark.parametrize("data", [None, b"garbage", b""])
def test_a_damaged_head_costs_nothing(branched: Hierarchy, data: bytes | None) -> None:
    branched.backup()
    branched.send()
    for folder in (branched.chain().lower, branched.chain().inbox):
        for head in folder.glob("clients/*/head*"):
            head.unlink()
            if data is not None:
                head.write_bytes(data)
    segments_in(branched.chain().lower)[1].unlink()
    for _ in range(2):
        branched.deliver()
    assert_ends_well(branched, branched.source_tree())


# --- full disks ---


class SmallDisk:
    """A small file system; a file without a name takes what room there is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def leaving(self, kilobytes: int) -> Iterator[None]:
        """About so much more fits while the block runs."""
        with tempfile.TemporaryFile(dir=self._folder, buffering=0) as ballast:
            try:
                while ballast.write(bytes(4096)):
                    pass
            except OSError:
                pass
            ballast.truncate(max(0, ballast.tell() - kilobytes * 1024))
            yield


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    aside = folder.with_name(f"{folder.name}-aside")
    folder.rename(aside)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], check=True)
    try:
        shutil.copytree(aside, folder, dirs_exist_ok=True)
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def _full_runs(world: Hierarchy, phase: int, disk: SmallDisk) -> int:
    """Run a phase with ever more room; how often it found too little. Each ends well or says so."""
    full = 0
    for kilobytes in range(0, 400, 12):
        try:
            with disk.leaving(kilobytes):
                result = world.phases[phase]()
            full += bool(getattr(result, "waiting_for", ""))
        except StorageFullError as error:
            assert error.exit_code == 75
            full += 1
    return full


_PLACES: dict[str, tuple[Callable[[Hierarchy], Path], int]] = {
    "spool": (lambda world: world.client().spool, 0),
    "client state": (lambda world: world.client().state_folder, 0),
    "inbox": (lambda world: world.chain().lower, 1),
    "branch": (lambda world: world.chain().branch.state_folder, 2),
    "inbox above": (lambda world: world.chain().inbox, 3),
    "top state": (lambda world: world.chain().top.state_folder, 4),
    "repository": (lambda world: world.chain().repository, 4),
}


@pytest.mark.parametrize("place", _PLACES)
def test_a_full_disk_is_back_pressure(branched: Hierarchy, place: str) -> None:
    folder, phase = _PLACES[place]
    for before in branched.phases[:phase]:
        before()
    with small_disk(folder(branched), 12) as disk:
        assert _full_runs(branched, phase, disk) > 0
        branched.backup()
        branched.deliver()
        assert_ends_well(branched, branched.source_tree())


# --- failing storage ---


def _again(phase: Callable[[], object]) -> None:
    """A run that a user, or a timer, repeats later."""
    try:
        phase()
    except RemoteError:
        pass


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER, Kind.TORN], ids=lambda kind: kind.name.lower())
@pytest.mark.parametrize(
    ("branch", "phase"),
    [(False, 1), (False, 2), (False, 3), (True, 2), (True, 3), (True, 5)],
    ids=["send", "receive", "read receipts", "branch receive", "branch send", "answers down"],
)
def test_any_failing_operation_of_a_storage_changes_nothing_in_the_end(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Kind, branch: bool, phase: int
) -> None:
    start = _started(quick_path, monkeypatch, branched=branch)
    tree = start.source_tree()
    for before in start.phases[:phase]:
        before()
    faults: list[Fault] = []
    monkeypatch.setattr("tests.support.chain.installed", lambda: FaultyPlugins(faults))
    operation = 0
    while True:
        world = start.copy(quick_path / f"fault{operation}")
        faults.append(Fault(kind, skip=operation, keep_bytes=50))
        _again(world.phases[phase])
        if faults:
            break
        for later in [*world.phases[phase:], *world.phases[1:]]:
            _again(later)
        world.deliver()
        assert world.snapshots()[max(world.versions())] == tree
        world.assert_settled()
        if operation % 20 == 0:
            world.check()
        shutil.rmtree(world.base)
        operation += 1
    print(f"{kind.name} {phase}: {operation} faults")
    assert operation > 0 or kind is Kind.TORN
