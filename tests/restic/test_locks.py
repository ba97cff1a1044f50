"""Locks: shared with restic, lost when somebody removes them."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from cdr_plugin.errors import LockedError, LockLostError
from cdr_plugin.model.blobs import BlobType
from cdr_restic.files import SealedFiles
from cdr_restic.host import host_name, now_text
from cdr_restic.local import LocalStorage
from cdr_restic.lock_files import LockFile, is_stale
from cdr_restic.locks import LockTimes
from cdr_restic.storage import FileKind
from tests.restic.world import Place, add_blob, some_blobs, write_version


def _foreign_lock(place: Place, **fields: object) -> str:
    """A lock as restic writes it."""
    values = {"time": now_text(), "exclusive": True, "hostname": "elsewhere", "username": "ann", "pid": 77}
    files = SealedFiles(LocalStorage(str(place.folder)), place.key, 2)
    return files.save(FileKind.LOCKS, msgspec.json.encode({**values, **fields}))


def _locks(place: Place) -> list[str]:
    return list(LocalStorage(str(place.folder)).list(FileKind.LOCKS))


def test_restic_sees_our_lock_as_its_own_and_does_not_prune(place: Place) -> None:
    with place.repository().writing() as session:
        write_version(session, some_blobs(5))
        [name] = place.restic("list", "locks", "--no-lock").split()
        lock = json.loads(place.restic("cat", "lock", name, "--no-lock"))
        assert lock["pid"] == os.getpid() and lock["hostname"] == host_name() and not lock["exclusive"]
        assert "already locked" in place.restic("prune", fails=True)
        place.restic("unlock")
        assert _locks(place) == [name], "a live lock is not stale"
    assert _locks(place) == []
    place.restic("prune")


def test_readers_hold_a_lock_too_unless_told_not_to(place2: Place) -> None:
    with place2.repository().reading():
        assert "already locked" in place2.restic("prune", fails=True)
    repository = place2.repository()
    repository._options = place2.options(no_lock=True)
    with repository.reading():
        assert _locks(place2) == []


def test_an_exclusive_lock_is_named_and_left_alone(place2: Place) -> None:
    name = _foreign_lock(place2)
    with pytest.raises(LockedError) as caught, place2.repository().writing():
        pass
    text = str(caught.value)
    assert "locked exclusively by ann@elsewhere (process 77) since" in text
    assert "try again when that process is done" in text
    assert _locks(place2) == [name]
    assert caught.value.exit_code == 11


@pytest.mark.parametrize(
    "fields",
    [{"time": "2020-01-01T00:00:00.123456789+01:00"}, {"hostname": host_name(), "pid": 2**22 + 12345}],
    ids=["old", "dead process of this machine"],
)
def test_a_stale_exclusive_lock_still_blocks_and_says_what_to_do(place2: Place, fields: dict[str, object]) -> None:
    name = _foreign_lock(place2, **fields)
    with pytest.raises(LockedError, match="the lock is stale, remove it with 'cdr unlock' or 'restic unlock'"):
        place2.repository().writing().__enter__()
    assert _locks(place2) == [name]
    place2.restic("unlock")
    with place2.repository().writing():
        pass


def test_a_shared_foreign_lock_disturbs_nobody(place2: Place) -> None:
    name = _foreign_lock(place2, exclusive=False)
    with place2.repository().writing() as session:
        write_version(session, some_blobs(3))
    assert _locks(place2) == [name]


def test_an_exclusive_lock_that_appears_while_ours_settles_wins(place2: Place) -> None:
    class Racing(LocalStorage):
        def save(self, kind: FileKind, name: str, data: object) -> None:
            super().save(kind, name, data)  # type: ignore[arg-type]
            if kind is FileKind.LOCKS:
                _foreign_lock(place2)

    with pytest.raises(LockedError):
        place2.repository(Racing(str(place2.folder))).writing().__enter__()
    assert len(_locks(place2)) == 1


def test_an_unreadable_lock_blocks_and_an_empty_one_does_not(place2: Place) -> None:
    (place2.folder / "locks" / ("1" * 64)).write_bytes(b"")
    with place2.repository().writing():
        pass
    (place2.folder / "locks" / ("2" * 64)).write_bytes(b"some bytes that are no lock")
    with pytest.raises(LockedError, match="locks 2222222222 of repository .* is damaged.*'cdr unlock --remove-all'"):
        place2.repository().writing().__enter__()


def test_nothing_is_written_once_our_lock_was_removed(place2: Place) -> None:
    with pytest.raises(LockLostError, match="was removed by somebody"), place2.repository().writing() as session:
        add_blob(session, BlobType.DATA, b"x")
        place2.restic("unlock", "--remove-all")
        write_version(session, some_blobs(5))
    assert place2.snapshots() == []


def test_a_lock_without_refresh_is_lost_before_restic_calls_it_stale(place2: Place) -> None:
    now = [0.0]
    times = LockTimes(settle_s=0, clock=lambda: now[0])
    repository = place2.repository(times=times)
    with pytest.raises(LockLostError, match="not refreshed for 23 minutes"), repository.writing() as session:
        add_blob(session, BlobType.DATA, b"x")
        now[0] = 23 * 60
        session.flush()
    assert list((place2.folder / "data").rglob("*/*")) == []


def test_flush_refreshes_an_old_lock_under_a_new_name(place2: Place) -> None:
    now = [0.0]
    times = LockTimes(settle_s=0, clock=lambda: now[0])
    with place2.repository(times=times).writing() as session:
        before = _locks(place2)
        now[0] = 6 * 60
        session.flush()
        after = _locks(place2)
        assert len(after) == 1 and after != before
    assert _locks(place2) == []


def test_the_lock_is_refreshed_while_nobody_calls(place2: Place) -> None:
    renewed = threading.Event()

    class Watching(LocalStorage):
        saved = 0

        def save(self, kind: FileKind, name: str, data: object) -> None:
            super().save(kind, name, data)  # type: ignore[arg-type]
            Watching.saved += kind is FileKind.LOCKS
            if Watching.saved == 3:
                renewed.set()

    times = LockTimes(settle_s=0, refresh_s=0.001)
    with place2.repository(Watching(str(place2.folder)), times).writing():
        assert renewed.wait(60)
    assert _locks(place2) == []


def test_two_passes_with_one_state_folder_exclude_each_other(place2: Place) -> None:
    with place2.repository().writing(), pytest.raises(LockedError, match="another process is writing"):
        place2.repository().writing().__enter__()


def test_two_passes_of_different_tiers_may_run_at_once(place2: Place, tmp_path: Path) -> None:
    other = Place(place2.folder, tmp_path / "other", known_key=place2.key)
    with place2.repository().writing() as one, other.repository().writing() as two:
        write_version(one, some_blobs(20, seed=1), "one")
        write_version(two, some_blobs(20, seed=2), "two")
    place2.check()


def test_a_lock_of_a_running_process_is_not_stale() -> None:
    lock = LockFile("2024-01-01T00:00:00Z", False, host_name(), "", os.getpid())
    now_s = 1704067200.0
    assert not is_stale(lock, now_s + 60)
    assert is_stale(lock, now_s + 31 * 60)
    ended = subprocess.Popen(["true"])
    ended.wait()
    lock.pid = ended.pid
    assert is_stale(lock, now_s + 60)
