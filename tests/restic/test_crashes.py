"""Whatever breaks off a pass, the repository stays sound and the next pass stores nothing twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdr_plugin.errors import CdrError, RemoteError, StorageFullError
from cdr_plugin.model.blobs import BlobType, Buffer, blob_id
from cdr_restic.local import LocalStorage
from cdr_restic.repository import ResticRepository
from cdr_restic.storage import FileKind
from tests.restic.world import (
    FaultyStorage,
    Place,
    add_blob,
    blob_copies,
    fail,
    make_place,
    some_blobs,
    write_version,
)

FIRST = some_blobs(40, seed=1)
SECOND = some_blobs(90, seed=2)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A repository with one version."""
    place = make_place(tmp_path_factory.mktemp("start"))
    with place.repository().writing() as session:
        write_version(session, FIRST)
    return place


def two_versions(repository: ResticRepository) -> None:
    """A pass of several packs, three indexes, two snapshots and a removal."""
    with repository.writing() as session:
        add_blob(session, BlobType.DATA, SECOND[-1])
        session.flush()
        write_version(session, SECOND[:60])
        removed = write_version(session, SECOND[:61])
        session.remove_version(removed)
        write_version(session, SECOND)


def assert_sound_and_finishes(place: Place) -> None:
    """restic finds no error now, our next pass succeeds, and no blob is stored twice."""
    assert "no errors were found" in place.restic("check", "--read-data", "--no-lock")
    two_versions(place.repository())
    copies = blob_copies(place)
    assert len(copies) == len(set(copies))
    assert list(LocalStorage(str(place.folder)).list(FileKind.LOCKS)) == []


def operations(start: Place, tmp_path: Path) -> int:
    """How many storage operations a pass takes."""
    place = start.copy(tmp_path)
    storage = FaultyStorage(place.folder, 0, "before", fail)
    two_versions(place.repository(storage))
    return storage.count


def test_any_failing_operation_leaves_a_sound_repository(start: Place, tmp_path: Path) -> None:
    """restic checks every sixth, our own verification all of them: each run of restic takes long."""
    (tmp_path / "count").mkdir()
    total = operations(start, tmp_path / "count")
    assert total > 30
    for when in ("before", "after", "torn"):
        for at in range(1, total + 1):
            folder = tmp_path / f"{when}{at}"
            folder.mkdir()
            place = start.copy(folder)
            storage = FaultyStorage(place.folder, at, when, fail)
            try:
                two_versions(place.repository(storage))
            except RemoteError as error:
                assert "planned fault" in str(error)
            assert storage.fired
            if at % 6 == 0:
                assert "no errors were found" in place.restic("check", "--read-data", "--no-lock")
            two_versions(place.repository())
            copies = blob_copies(place)
            assert len(copies) == len(set(copies)), (when, at)


def _dying(counter: list[int], at: int, real: Callable[..., object]) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        counter[0] += 1
        if counter[0] == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **named)

    return call


def _child(place: Place, repository: ResticRepository, at: int) -> bool:
    """Run the pass in a child that dies just before its system call number ``at``; did it?"""
    child = os.fork()
    if child == 0:
        counter = [0]
        for name in ("open", "write", "fsync", "rename", "unlink", "chmod", "ftruncate"):
            setattr(os, name, _dying(counter, at, getattr(os, name)))
        try:
            two_versions(repository)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def test_a_kill_at_any_system_call_leaves_a_sound_repository(start: Place, tmp_path: Path) -> None:
    at = 1
    killed = True
    while killed:
        folder = tmp_path / f"kill{at}"
        folder.mkdir()
        place = start.copy(folder)
        killed = _child(place, place.repository(), at)
        assert at < 2000
        if killed and at % 9 == 0:
            assert_sound_and_finishes(place)
        elif killed:
            two_versions(place.repository())
            copies = blob_copies(place)
            assert len(copies) == len(set(copies)), at
            assert list(LocalStorage(str(place.folder)).list(FileKind.LOCKS)) == []
        at += 1
    assert at > 50


def _crashed(start: Place, tmp_path: Path) -> Place:
    """A repository with packs that no index lists, and a journal that does."""
    place = start.copy(tmp_path)
    with pytest.raises(KeyboardInterrupt), place.repository().writing() as session:
        for blob in SECOND:
            add_blob(session, BlobType.DATA, blob)
        raise KeyboardInterrupt
    assert list(_unindexed(place))
    return place


def _unindexed(place: Place) -> Iterator[Path]:
    repository = place.repository()
    with repository.reading() as reader:
        index = reader._index  # type: ignore[attr-defined]
        for path in (place.folder / "data").rglob("*"):
            if path.is_file() and not index.has_pack(path.name):
                yield path


def test_packs_of_a_broken_pass_are_verified_and_indexed(start: Place, tmp_path: Path) -> None:
    place = _crashed(start, tmp_path)
    with place.repository().writing() as session:
        assert sum(session.has(BlobType.DATA, blob_id(blob)) for blob in SECOND) > 0
        for blob in SECOND:
            add_blob(session, BlobType.DATA, blob)
    assert list(_unindexed(place)) == []
    place.check()
    assert place.notes.texts == []


def test_a_damaged_pack_of_a_broken_pass_is_left_alone_and_reported(start: Place, tmp_path: Path) -> None:
    place = _crashed(start, tmp_path)
    damaged = next(_unindexed(place))
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.chmod(0o600)
    damaged.write_bytes(data)
    with place.repository().writing() as session:
        write_version(session, SECOND)
    assert damaged in list(_unindexed(place))
    assert len(place.notes.texts) == 1
    assert damaged.name[:10] in place.notes.texts[0] and "restic prune" in place.notes.texts[0]
    place.restic("prune")
    place.check()


def test_without_its_state_a_broken_pass_costs_space_and_nothing_else(start: Place, tmp_path: Path) -> None:
    place = _crashed(start, tmp_path)
    for path in place.state.iterdir():
        path.unlink()
    two_versions(place.repository())
    place.restic("prune")
    place.check()


def test_an_exception_drops_what_was_not_flushed(start: Place, tmp_path: Path) -> None:
    place = start.copy(tmp_path)
    with pytest.raises(ZeroDivisionError), place.repository().writing() as session:
        id_ = add_blob(session, BlobType.DATA, b"never flushed")
        raise ZeroDivisionError
    with place.repository().writing() as session:
        assert not session.has(BlobType.DATA, id_)
    place.check()


class _FullDisk(LocalStorage):
    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        if kind is FileKind.DATA:
            raise StorageFullError("cannot write: No space left on device")
        super().save(kind, name, data)


def test_a_full_disk_surfaces_and_the_pass_accepts_nothing_more(start: Place, tmp_path: Path) -> None:
    place = start.copy(tmp_path)
    repository = place.repository(_FullDisk(str(place.folder)))
    with pytest.raises(StorageFullError), repository.writing() as session:
        write_version(session, SECOND[:5], "x")
    with pytest.raises(StorageFullError), repository.writing() as session:
        with pytest.raises(StorageFullError):
            write_version(session, SECOND)
        with pytest.raises(StorageFullError):
            add_blob(session, BlobType.DATA, b"more")
    with pytest.raises(CdrError):
        session.flush()
    place.check()
    two_versions(place.repository())
    place.check()
