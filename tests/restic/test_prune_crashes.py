"""Whatever breaks off a prune, every version stays whole and the next prune finishes the work."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdr_plugin.care import PruneOptions, PruneReport
from cdr_plugin.errors import LockLostError, RemoteError, StorageFullError
from cdr_plugin.model.blobs import BlobType, Buffer, blob_id
from cdr_restic.crypto import Sealer
from cdr_restic.local import LocalStorage
from cdr_restic.packs import PackBuilder
from cdr_restic.repository import ResticRepository
from cdr_restic.storage import FileKind
from tests.restic.sound import assert_sound, unindexed
from tests.restic.world import FaultyStorage, Place, blob_copies, fail, make_place, some_blobs, write_version
from tests.support.crashing import kill_at

BLOBS = some_blobs(40, seed=3, largest=12000)
THOROUGH = PruneOptions(max_unused="0")


@pytest.fixture(autouse=True)
def _small_index_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that one prune writes several."""
    monkeypatch.setattr("cdr_restic.packing.FULL_INDEX_BLOBS", 8)
    monkeypatch.setattr("cdr_restic.care.relist.FULL_INDEX_BLOBS", 12)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Two versions, packs that they need in part, one that nobody needs, and one that no index lists."""
    place = make_place(tmp_path_factory.mktemp("start"))
    with place.repository().writing() as session:
        removed = [write_version(session, BLOBS), write_version(session, some_blobs(5, seed=9))]
        write_version(session, BLOBS[::3])
        write_version(session, BLOBS[1::7])
        for id_ in removed:
            session.remove_version(id_)
    save_pack(place, BLOBS[:3])
    return place


def save_pack(place: Place, blobs: list[bytes]) -> str:
    """A pack that no index lists."""
    from hashlib import sha256

    builder = PackBuilder(bytearray(), 1 << 20, Sealer(place.key), 0)
    for blob in blobs:
        builder.append(BlobType.DATA, blob_id(blob), blob, 0)
    data = bytes(builder.finish())
    name = sha256(data).hexdigest()
    LocalStorage(str(place.folder)).save(FileKind.DATA, name, data)
    return name


def prune(repository: ResticRepository) -> PruneReport:
    return repository.care().prune(THOROUGH)


def assert_finishes(place: Place, contents: dict[str, set[bytes]], *, ask_restic: bool) -> None:
    """All versions are whole now; the next prune leaves nothing unneeded behind, not even a lock."""
    assert assert_sound(place) == contents
    if ask_restic:
        assert "no errors were found" in place.restic("check", "--read-data", "--no-lock")
    prune(place.repository())
    assert assert_sound(place) == contents
    again = place.repository().care().prune(PruneOptions(max_unused="0", dry_run=True))
    waste = again.blobs_duplicate, again.blobs_unused, again.packs_unreferenced
    assert waste == (0, 0, 0)
    assert list(LocalStorage(str(place.folder)).list(FileKind.LOCKS)) == []
    if ask_restic:
        place.check()


class _Noting(FaultyStorage):
    """Knows whether the chosen operation was a save: only those can be torn."""

    hit_save = False

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        self.hit_save = self.hit_save or self.count + 1 == self._at
        super().save(kind, name, data)


def test_the_prune_that_is_swept_does_everything(start: Place, tmp_path: Path) -> None:
    place = start.copy(tmp_path)
    report = prune(place.repository())
    assert report.packs_repacked >= 6 and report.packs_removed >= 1 and report.packs_unreferenced == 1
    place.check()


def test_any_failing_operation_leaves_a_sound_repository(start: Place, tmp_path: Path) -> None:
    contents = assert_sound(start)
    saves = []
    for when in ("before", "after", "torn"):
        at = 0
        while True:
            at += 1
            if when == "torn" and at not in saves:
                if at > max(saves):
                    break
                continue
            folder = tmp_path / f"{when}{at}"
            folder.mkdir()
            place = start.copy(folder)
            storage = _Noting(place.folder, at, when, fail)
            try:
                prune(place.repository(storage))
            except RemoteError as error:
                assert "planned fault" in str(error)
            if not storage.fired:
                break
            if storage.hit_save:
                saves.append(at)
            assert_finishes(place, contents, ask_restic=at % 40 == 7)
        assert at > 40 or when == "torn"
    assert len(saves) >= 14, "two for each of seven files"


def test_a_kill_at_any_durable_operation_leaves_a_sound_repository(start: Place, tmp_path: Path) -> None:
    contents = assert_sound(start)
    at = 0
    killed = True
    while killed:
        at += 1
        folder = tmp_path / f"kill{at}"
        folder.mkdir()
        place = start.copy(folder)
        repository = place.repository()
        killed = kill_at(at, lambda repository=repository: prune(repository)).killed  # type: ignore[misc]
        assert_finishes(place, contents, ask_restic=at % 25 == 11)
    assert at > 40


def test_our_next_writing_pass_removes_what_a_killed_prune_was_copying(start: Place, tmp_path: Path) -> None:
    at, found = 10, 0
    while not found:
        at += 1
        folder = tmp_path / f"kill{at}"
        folder.mkdir()
        place = start.copy(folder)
        assert kill_at(at, lambda place=place: prune(place.repository())).killed  # type: ignore[misc]
        journal = next(place.state.glob("*.journal")).read_text()
        found = sum(name in journal for name in unindexed(place))
    with place.repository().writing() as session:
        write_version(session, BLOBS[:5])
    assert unindexed(place) == []
    copies = blob_copies(place)
    assert len(copies) == len(set(copies))
    place.check()


class _NearlyFull(LocalStorage):
    """Takes so many bytes and no more."""

    def __init__(self, location: str, free_bytes: int) -> None:
        super().__init__(location)
        self._free = free_bytes

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        self._free -= len(data)
        if self._free < 0:
            raise StorageFullError("cannot write: No space left on device")
        super().save(kind, name, data)


@pytest.mark.parametrize("free_bytes", [0, 2_000, 20_000, 45_000])
def test_a_full_disk_stops_a_prune_and_harms_nothing(start: Place, tmp_path: Path, free_bytes: int) -> None:
    contents = assert_sound(start)
    place = start.copy(tmp_path)
    with pytest.raises(StorageFullError):
        prune(place.repository(_NearlyFull(str(place.folder), free_bytes)))
    assert_finishes(place, contents, ask_restic=free_bytes == 20_000)


def test_removing_without_copying_needs_room_for_the_index_only(start: Place, tmp_path: Path) -> None:
    place = start.copy(tmp_path)
    contents = assert_sound(place)
    storage = _NearlyFull(str(place.folder), 8_000)
    report = place.repository(storage).care().prune(PruneOptions(max_unused="unlimited", max_repack_size=0))
    assert report.packs_removed and not report.packs_repacked
    assert assert_sound(place) == contents


class _Unlocking(FaultyStorage):
    """Somebody removes our lock at the chosen operation; notes what is removed and written once that was noticed.
    Packs may be under way at that moment: nobody misses them."""

    def __init__(self, folder: Path, at: int) -> None:
        super().__init__(folder, at, "before", self._unlock)
        self.late_writes: list[str] = []
        self.late_confirms = 0

    def _unlock(self) -> None:
        for path in (self._folder / "locks").iterdir():
            path.unlink()

    def size(self, kind: FileKind, name: str) -> int:
        self.late_confirms += self.fired and kind is FileKind.LOCKS
        return super().size(kind, name)

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        super().save(kind, name, data)
        if self.late_confirms and kind is not FileKind.DATA:
            self.late_writes.append(f"save {kind}")

    def remove(self, kind: FileKind, name: str) -> None:
        super().remove(kind, name)
        if self.late_confirms and kind is not FileKind.LOCKS:
            self.late_writes.append(f"remove {kind}")


def test_a_lost_lock_stops_a_prune_when_it_is_noticed(start: Place, tmp_path: Path) -> None:
    contents = assert_sound(start)
    lost = 0
    for at in range(6, 400, 3):
        folder = tmp_path / f"lost{at}"
        folder.mkdir()
        place = start.copy(folder)
        storage = _Unlocking(place.folder, at)
        try:
            prune(place.repository(storage))
        except LockLostError:
            lost += 1
        assert storage.late_writes == []
        if not storage.fired:
            break
        assert assert_sound(place) == contents
    assert lost > 15


def test_a_pack_that_cannot_be_removed_is_noted_and_goes_with_the_next_prune(start: Place, tmp_path: Path) -> None:
    class Stubborn(LocalStorage):
        def remove(self, kind: FileKind, name: str) -> None:
            if kind is FileKind.DATA:
                raise RemoteError(f"cannot remove {name[:10]}")
            super().remove(kind, name)

    place = start.copy(tmp_path)
    contents = assert_sound(place)
    report = prune(place.repository(Stubborn(str(place.folder))))
    gone = report.packs_removed + report.packs_repacked + report.packs_unreferenced
    assert len(place.notes.texts) == gone and "the next prune removes it" in place.notes.texts[0]
    assert len(unindexed(place)) == gone
    assert_finishes(place, contents, ask_restic=True)


def test_the_state_folder_is_not_needed_to_finish(start: Place, tmp_path: Path) -> None:
    place = start.copy(tmp_path)
    contents = assert_sound(place)
    kill_at(40, lambda: prune(place.repository()))
    for path in place.state.iterdir():
        os.unlink(path)
    place.restic("unlock")
    assert_finishes(place, contents, ask_restic=False)
