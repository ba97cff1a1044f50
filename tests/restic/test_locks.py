"""Locks: shared with restic, lost when somebody removes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from cdr_plugin.errors import LockedError, LockLostError, RemoteError
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_restic.care.unlock import unlock
from cdr_restic.files import SealedFiles
from cdr_restic.hangup import hangup_ignored
from cdr_restic.host import host_name, now_text
from cdr_restic.local import LocalStorage
from cdr_restic.lock_files import LockFile, is_stale
from cdr_restic.locks import LockTimes, RepositoryLock
from cdr_restic.storage import FileKind
from tests.restic.world import Notes, Place, add_blob, some_blobs, write_version


class Clock:
    """Time that passes only in pauses, which may do something."""

    def __init__(self, *acts: Callable[[], object]) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []
        self.acts = list(acts)

    def pause(self, seconds: float) -> None:
        self.now_s += seconds
        self.pauses.append(seconds)
        if self.acts:
            self.acts.pop(0)()

    @property
    def times(self) -> LockTimes:
        return LockTimes(clock=lambda: self.now_s, pause=self.pause)


def _nothing() -> None:
    pass


def _files(place: Place) -> SealedFiles:
    return SealedFiles(LocalStorage(str(place.folder)), place.key, 2)


def _lock(
    place: Place, clock: Clock, *, exclusive: bool = False, retry_s: float = 0, files: SealedFiles | None = None
) -> RepositoryLock:
    files = files or _files(place)
    return RepositoryLock(
        files, lambda name: None, place.notes, clock.times, exclusive=exclusive, retry_s=retry_s
    )


def _foreign_lock(place: Place, **fields: object) -> str:
    """A lock as restic writes it."""
    values = {"time": now_text(), "exclusive": True, "hostname": "elsewhere", "username": "ann", "pid": 77}
    return _files(place).save(FileKind.LOCKS, msgspec.json.encode({**values, **fields}))


def _remove(place: Place, *names: str) -> None:
    for name in names or _locks(place):
        LocalStorage(str(place.folder)).remove(FileKind.LOCKS, name)


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
    with pytest.raises(LockedError, match=r"locks 2222222222 of repository .* is damaged.*'cdr unlock --remove-all'"):
        place2.repository().writing().__enter__()


def test_nothing_is_written_once_our_lock_was_removed(place2: Place) -> None:
    with pytest.raises(LockLostError, match="was removed by somebody"), place2.repository().writing() as session:
        add_blob(session, BlobType.DATA, b"x")
        place2.restic("unlock", "--remove-all")
        write_version(session, some_blobs(5))
    assert place2.snapshots() == []


def test_packs_are_not_listed_once_our_lock_was_removed(place2: Place) -> None:
    """Whoever removed it may have pruned what no index lists."""
    with pytest.raises(LockLostError), place2.repository().writing() as session:
        for blob in some_blobs(40):
            add_blob(session, BlobType.DATA, blob)
        _remove(place2)
        session.flush()
    assert list((place2.folder / "data").rglob("*/*")) != []
    assert list((place2.folder / "index").iterdir()) == []


# --- trying again ---


def test_a_lock_is_tried_for_after_5_seconds_doubling_to_a_minute_until_the_deadline(place2: Place) -> None:
    _foreign_lock(place2)
    clock = Clock()
    with pytest.raises(LockedError, match="ann@elsewhere"), _lock(place2, clock, retry_s=200):
        pass
    assert clock.pauses == [5, 10, 20, 40, 60, 60, 5]
    [said] = place2.notes.texts
    assert "ann@elsewhere" in said and said.endswith("trying again for 200 seconds")


def test_trying_again_succeeds_once_the_other_is_done(place2: Place) -> None:
    name = _foreign_lock(place2)
    clock = Clock(_nothing, lambda: _remove(place2, name))
    with _lock(place2, clock, exclusive=True, retry_s=3600):
        assert clock.pauses == [5, 10, 0.2]
    assert _locks(place2) == []


def test_without_retry_nothing_is_waited_for(place2: Place) -> None:
    _foreign_lock(place2)
    clock = Clock()
    with pytest.raises(LockedError):
        _lock(place2, clock).__enter__()
    assert clock.pauses == []


# --- conflicts ---


@pytest.mark.parametrize("theirs", [False, True], ids=["shared", "exclusive"])
def test_an_exclusive_lock_tolerates_no_other(place2: Place, theirs: bool) -> None:
    name = _foreign_lock(place2, exclusive=theirs)
    with pytest.raises(LockedError, match="exclusively by ann" if theirs else "in use by ann"):
        _lock(place2, Clock(), exclusive=True).__enter__()
    _remove(place2, name)
    with _lock(place2, Clock(), exclusive=True), pytest.raises(LockedError, match="locked exclusively by"):
        _lock(place2, Clock(), exclusive=theirs).__enter__()
    assert _locks(place2) == []


def test_a_shared_lock_that_appears_while_our_exclusive_one_settles_wins(place2: Place) -> None:
    clock = Clock(lambda: _foreign_lock(place2, exclusive=False))
    with pytest.raises(LockedError):
        _lock(place2, clock, exclusive=True).__enter__()
    assert clock.pauses == [0.2] and len(_locks(place2)) == 1


def test_a_lock_that_is_refreshed_while_we_look_is_seen_under_its_new_name(place2: Place) -> None:
    class Refreshing(LocalStorage):
        """Whoever holds the lock refreshes it between our listing and our reading."""

        def size(self, kind: FileKind, name: str) -> int:
            if name in old:
                old.remove(name)
                _foreign_lock(place2)
                _remove(place2, name)
            return super().size(kind, name)

    old = [_foreign_lock(place2)]
    files = SealedFiles(Refreshing(str(place2.folder)), place2.key, 2)
    clock = Clock()
    with pytest.raises(LockedError, match="ann@elsewhere"):
        _lock(place2, clock, files=files).__enter__()
    assert old == [] and clock.pauses == []


def test_an_unreadable_lock_is_looked_at_four_times(place2: Place) -> None:
    path = place2.folder / "locks" / ("2" * 64)
    path.write_bytes(b"half a lo")
    clock = Clock()
    with pytest.raises(LockedError, match=r"locks 2222222222 of repository .* is damaged"):
        _lock(place2, clock).__enter__()
    assert clock.pauses == [5, 10, 20]
    clock = Clock(_nothing, path.unlink)
    with _lock(place2, clock):
        assert clock.pauses == [5, 10, 0.2]


def test_a_huge_lock_is_not_loaded(place2: Place) -> None:
    with (place2.folder / "locks" / ("3" * 64)).open("wb") as file:
        file.truncate(1 << 29)
    with pytest.raises(LockedError, match="536870912 bytes are too many for a lock"):
        _lock(place2, Clock()).__enter__()


def test_a_name_without_a_file_is_no_lock(place2: Place) -> None:
    (place2.folder / "locks" / ("4" * 64)).symlink_to("nowhere")
    with _lock(place2, Clock(), exclusive=True):
        pass


def test_what_only_looks_takes_no_lock_if_the_user_wants_none(place2: Place) -> None:
    _foreign_lock(place2)
    repository = place2.repository()
    repository._options = place2.options(no_lock=True)
    with repository.exclusive(only_looks=True) as held, repository.shared(only_looks=True):
        held.lock.check()
        held.lock.confirm()
        assert len(_locks(place2)) == 1
    with pytest.raises(LockedError):
        repository.exclusive().__enter__()


# --- keeping and losing ---


def test_after_a_long_sleep_a_lock_that_is_still_there_is_refreshed_and_kept(place2: Place) -> None:
    clock = Clock()
    with _lock(place2, clock) as lock:
        before = _locks(place2)
        clock.now_s += 3600
        lock.check()
        after = _locks(place2)
        assert len(after) == 1 and after != before
        assert clock.pauses == [0.2, 0.2]
        lock.confirm()
        assert _locks(place2) == after
    assert _locks(place2) == []


def test_after_a_long_sleep_a_lock_that_was_removed_is_lost(place2: Place) -> None:
    clock = Clock()
    with _lock(place2, clock) as lock:
        _remove(place2)
        clock.now_s += 3600
        for ask in (lock.check, lock.confirm, lock.check):
            with pytest.raises(LockLostError, match="was removed by somebody"):
                ask()
        assert _locks(place2) == []


def test_a_lock_removed_during_the_last_attempt_is_lost_and_its_replacement_goes(place2: Place) -> None:
    def remove_the_old_one() -> None:
        assert len(_locks(place2)) == 2
        _remove(place2, *before)

    clock = Clock(_nothing, remove_the_old_one)
    with _lock(place2, clock) as lock:
        before = _locks(place2)
        clock.now_s += 3600
        with pytest.raises(LockLostError, match="was removed by somebody"):
            lock.check()
        assert clock.acts == [] and _locks(place2) == []


def test_the_last_attempt_is_the_last(place2: Place) -> None:
    """A lock without refresh is lost before restic calls it stale."""

    class Unreachable(LocalStorage):
        def save(self, kind: FileKind, name: str, data: Buffer) -> None:
            if clock.now_s > 60:
                raise RemoteError("no route to host")
            super().save(kind, name, data)

    clock = Clock()
    with _lock(place2, clock, files=SealedFiles(Unreachable(str(place2.folder)), place2.key, 2)) as lock:
        clock.now_s = 22 * 60
        lock.check()
        with pytest.raises(RemoteError, match="no route"):
            lock.confirm()
        clock.now_s = 23 * 60
        with pytest.raises(LockLostError, match=r"was not refreshed for 23 minutes \(no route to host\)"):
            lock.check()
        clock.now_s = 0
        with pytest.raises(LockLostError):
            lock.check()
    assert _locks(place2) == []


def test_nobody_writes_during_the_last_attempt(place2: Place) -> None:
    happened = []

    def other_writer() -> None:
        lock.check()
        happened.append("goes on")

    def settle() -> None:
        thread.start()
        happened.append("settled")

    thread = threading.Thread(target=other_writer)
    clock = Clock(_nothing, settle)
    with _lock(place2, clock) as lock:
        clock.now_s += 3600
        lock.check()
        thread.join()
    assert happened == ["settled", "goes on"]
    assert clock.pauses == [0.2, 0.2], "one attempt serves all"


def test_a_lock_removed_while_it_is_refreshed_is_lost(place2: Place) -> None:
    class Racing(LocalStorage):
        def save(self, kind: FileKind, name: str, data: Buffer) -> None:
            held = _locks(place2)
            super().save(kind, name, data)
            if held:
                _remove(place2, *held)

    clock = Clock()
    with _lock(place2, clock, files=SealedFiles(Racing(str(place2.folder)), place2.key, 2)) as lock:
        clock.now_s += 301
        with pytest.raises(LockLostError, match="was removed by somebody"):
            lock.confirm()
        assert _locks(place2) == []


def test_a_lost_lock_stops_care_in_the_middle(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(5))
    with pytest.raises(LockLostError), place2.repository().exclusive() as held:
        _remove(place2)
        held.lock.confirm()
    assert len(place2.repository().versions()) == 1


def test_a_hangup_is_survived_while_a_lock_is_held_and_handlers_of_others_stay() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with hangup_ignored():
            with hangup_ignored():
                pass
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL
        signal.signal(signal.SIGHUP, print_nothing := lambda *_: None)
        with hangup_ignored():
            assert signal.getsignal(signal.SIGHUP) is print_nothing
    finally:
        signal.signal(signal.SIGHUP, before)


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


# --- unlocking ---


def test_unlock_removes_what_restic_removes(place2: Place, tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    keep = {
        _foreign_lock(place2),
        _foreign_lock(place2, hostname=host_name(), pid=os.getpid(), exclusive=False),
        _foreign_lock(place2, pid=ended.pid),
    }
    _foreign_lock(place2, time="2020-01-01T00:00:00Z")
    _foreign_lock(place2, hostname=host_name(), pid=ended.pid)
    for digit, data in (("1", b""), ("2", b"this cannot be read as a lock")):
        keep.add(digit * 64)
        (place2.folder / "locks" / (digit * 64)).write_bytes(data)
    other = place2.copy(tmp_path / "other")
    notes = Notes()
    assert unlock(_files(place2), notes, all_locks=False) == 2
    assert set(_locks(place2)) == keep
    assert [text for text in notes.texts if "'cdr unlock --remove-all' removes it" in text]
    (other.folder / "locks" / ("1" * 64)).unlink()  # restic 0.14 crashes on it
    with hangup_ignored():
        other.restic("unlock")
    assert set(_locks(other)) == keep - {"1" * 64}
    assert unlock(_files(place2), notes, all_locks=True) == 5
    assert _locks(place2) == []
