"""CDR and restic at work on one repository at the same time.

Nothing here goes by luck: who shall wait is stopped, or kept from going on, while it holds its lock.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from cdr_plugin.care import PruneOptions
from cdr_plugin.errors import LockedError, LockLostError
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_restic.local import LocalStorage
from cdr_restic.locks import LockTimes
from cdr_restic.storage import FileKind
from tests.restic.world import AT_ONCE, Place, add_blob, make_place, some_blobs, write_version
from tests.support.chain import PASSWORD
from tests.support.forger import check_repository, quick_chain, restic

from .command import CDR, Shell

_ATTEMPTS = 100
"""To stop a restic while it holds a lock of at least 200 ms; one suffices unless the machine is very busy."""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository with one version by CDR and one by restic, whose files are in ``source``."""
    place = make_place(tmp_path)
    with place.repository().writing() as session:
        write_version(session, some_blobs(30, seed=1))
    source = tmp_path / "source"
    source.mkdir()
    (source / "kept").write_bytes(random.Random(2).randbytes(300_000))
    place.restic("backup", str(source))
    return place


@pytest.fixture
def user(place: Place, tmp_path: Path) -> Shell:
    """Somebody for whom ``cdr`` and ``restic`` mean this repository."""
    return Shell(tmp_path, {"RESTIC_REPOSITORY": str(place.folder), "RESTIC_PASSWORD": place.password})


def locks(place: Place) -> set[str]:
    return set(LocalStorage(str(place.folder)).list(FileKind.LOCKS))


def assert_sound(place: Place, versions: int) -> None:
    """All data is there, and says so to both."""
    assert len(place.snapshots()) == versions
    assert locks(place) == set()
    place.check()


@contextmanager
def restic_stopped(place: Place, user: Shell, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A restic that has its lock and does not go on; it goes on, and ends well, when the block ends."""
    for _ in range(_ATTEMPTS):
        running = _start(user, "restic", "--no-cache", *arguments)
        if _stop_with_lock(place, running):
            break
    try:
        assert locks(place)
        yield running
    finally:
        _go_on(running)


def _go_on(running: subprocess.Popen[bytes]) -> None:
    running.send_signal(signal.SIGCONT)
    _, said = running.communicate()
    assert running.returncode == 0, said


def _stop_with_lock(place: Place, running: subprocess.Popen[bytes]) -> bool:
    """Whether it was stopped in time; else it has ended."""
    while running.poll() is None and not locks(place):
        pass
    running.send_signal(signal.SIGSTOP)
    if running.returncode is None:
        _, status = os.waitpid(running.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            if locks(place):
                return True
            _go_on(running)
            return False
        running.returncode = os.waitstatus_to_exitcode(status)
    _, said = running.communicate()
    assert running.returncode == 0, said
    return False


@contextmanager
def restic_backing_up(place: Place, user: Shell) -> Iterator[None]:
    """A restic in the middle of a backup: it waits for the rest of its standard input."""
    running = _start(user, "restic", "--no-cache", "backup", "--stdin", stdin=subprocess.PIPE)
    assert running.stdin is not None
    running.stdin.write(random.Random(3).randbytes(2_000_000))
    running.stdin.flush()
    while not locks(place):
        assert running.poll() is None
    try:
        yield
    finally:
        _, said = running.communicate(random.Random(4).randbytes(100_000))
        assert running.returncode == 0, said


def _start(user: Shell, *command: object, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        list(map(str, command)),
        cwd=user.folder,
        env=user.environment(),
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


# --- writing beside writing ---


def test_restic_backs_up_in_the_middle_of_our_pass(place: Place) -> None:
    with place.repository().writing() as session:
        write_version(session, some_blobs(30, seed=5))
        place.restic("backup", str(place.folder.parent / "source"))
        write_version(session, some_blobs(30, seed=6))
    assert_sound(place, 5)


def test_we_write_in_the_middle_of_a_backup_by_restic(place: Place, user: Shell) -> None:
    with restic_backing_up(place, user):
        with place.repository().writing() as session:
            write_version(session, some_blobs(30, seed=5))
        assert len(locks(place)) == 1
    assert_sound(place, 4)


# --- writing beside removing ---


def test_we_do_not_write_while_restic_prunes_and_do_so_once_it_is_done(place: Place, user: Shell) -> None:
    with restic_stopped(place, user, "prune", "--max-unused", "0") as pruning:
        with pytest.raises(LockedError, match=f"is locked exclusively by .*process {pruning.pid}"):
            place.repository().writing().__enter__()

        def until_it_is_done(seconds: float) -> None:
            pruning.send_signal(signal.SIGCONT)
            pruning.wait()

        repository = place.repository(times=LockTimes(settle_s=0, pause=until_it_is_done))
        repository._options = replace(repository._options, retry_lock_s=3600)
        with repository.writing() as session:
            assert pruning.returncode == 0
            write_version(session, some_blobs(30, seed=5))
    assert_sound(place, 3)


def test_restic_neither_prunes_nor_forgets_in_the_middle_of_our_pass(place: Place) -> None:
    with place.repository().writing() as session:
        add_blob(session, BlobType.DATA, b"on its way")
        session.flush()
        for command in (("prune",), ("forget", "latest"), ("check",)):
            assert "already locked" in place.restic(*command, fails=True)
        write_version(session, [*some_blobs(30, seed=5), b"on its way"])
    assert_sound(place, 3)


def test_restic_does_not_back_up_while_we_hold_the_repository_alone(place: Place) -> None:
    source = str(place.folder.parent / "source")
    with place.repository().exclusive():
        for command in (("backup", source), ("prune",), ("snapshots",)):
            assert "already locked exclusively" in place.restic(*command, fails=True)
    place.restic("backup", source)
    assert_sound(place, 3)


# --- every command against a lock ---

ALONE = ("prune", "forget --keep-last 1 --group-by=", "key remove ab", "key passwd --new-password-file new", "check")
BESIDE = ("restore latest --target out", "dump latest /nothing", "key add --new-password-file new", "key list")


def test_what_needs_the_repository_alone_is_refused_while_restic_backs_up(place: Place, user: Shell) -> None:
    (user.folder / "new").write_text("new")
    with restic_backing_up(place, user):
        for command in ALONE:
            assert "is in use by" in user.cdr(*command.split(), code=11).error
        user.cdr("key", "list")
        user.cdr("check", "--no-lock")
    assert_sound(place, 3)


def test_every_command_is_refused_while_somebody_holds_the_repository_alone(place: Place, user: Shell) -> None:
    (user.folder / "new").write_text("new")
    with place.repository().exclusive():
        for command in (*ALONE, *BESIDE):
            said = user.cdr(*command.split(), code=11).error
            assert "is locked exclusively by" in said and str(place.folder) in said
        user.cdr("key", "list", "--no-lock")
        user.cdr("snapshots")
    assert_sound(place, 2)


def test_two_prunes_exclude_each_other(place: Place, user: Shell) -> None:
    with restic_stopped(place, user, "prune"):
        assert "is locked exclusively by" in user.cdr("prune", code=11).error
    with place.repository().exclusive():
        assert "already locked" in place.restic("prune", fails=True)
        assert "is locked exclusively by" in user.cdr("prune", code=11).error
    user.cdr("prune", "--max-unused", "0")
    assert_sound(place, 2)


def test_a_command_waits_for_restic_if_told_to(place: Place, user: Shell) -> None:
    with restic_stopped(place, user, "prune"):
        waiting = _start(user, CDR, "key", "list", "--retry-lock", "10m")
        assert waiting.stderr is not None
        assert b"trying again for" in waiting.stderr.readline()
    listed, said = waiting.communicate()
    assert waiting.returncode == 0, said
    assert place.key_id[:8].encode() in listed


# --- unlocking ---


def test_restic_unlock_leaves_the_lock_of_a_working_command_and_does_not_end_it(place: Place, user: Shell) -> None:
    """It is in the middle of a file that nobody takes from it."""
    data = random.Random(5).randbytes(3_000_000)
    (user.folder / "source/long").write_bytes(data)
    user.restic("backup", "source")
    dumping = _start(user, CDR, "dump", "latest", "source/long")
    assert dumping.stdout is not None
    begin = os.read(dumping.stdout.fileno(), 1)
    held = locks(place)
    user.restic("unlock")
    assert user.json("unlock")["locks_removed"] == 0
    assert locks(place) == held != set()
    rest, said = dumping.communicate()
    assert dumping.returncode == 0, said
    assert begin + rest == data
    assert_sound(place, 3)


def test_unlock_frees_what_a_killed_restic_left_behind(place: Place, user: Shell) -> None:
    running = _start(user, "restic", "--no-cache", "backup", "--stdin", stdin=subprocess.PIPE)
    while not locks(place):
        assert running.poll() is None
    running.kill()
    running.communicate()
    assert "the lock is stale, remove it with 'cdr unlock'" in user.cdr("prune", code=11).error
    assert user.json("unlock")["locks_removed"] == 1
    user.cdr("prune")
    assert_sound(place, 2)


def test_a_pass_whose_lock_was_removed_stops_and_what_was_pruned_meanwhile_is_not_relied_on(place: Place) -> None:
    blobs = some_blobs(30, seed=5)
    with pytest.raises(LockLostError, match="was removed by somebody"), place.repository().writing() as session:
        for blob in blobs:
            add_blob(session, BlobType.DATA, blob)
        place.restic("unlock", "--remove-all")
        place.restic("prune", "--max-unused", "0")
        write_version(session, blobs)
    assert len(place.snapshots()) == 2
    place.restic("check", "--read-data")
    with place.repository().writing() as session:
        write_version(session, blobs)
    assert_sound(place, 3)


class Interrupted(LocalStorage):
    """Before the first file of a kind is saved, somebody else acts."""

    def __init__(self, place: Place, kind: FileKind, act: Callable[[], object]) -> None:
        super().__init__(str(place.folder))
        self._kind = kind
        self._act = act
        self.acted = False

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        if kind is self._kind and not self.acted:
            self.acted = True
            self._act()
        super().save(kind, name, data)


def _leave_half_unused(place: Place) -> None:
    """A pack of whose blobs only half is needed, so that pruning copies and lists it anew."""
    blobs = some_blobs(40, seed=7)
    with place.repository().writing() as session:
        unused = write_version(session, blobs)
        write_version(session, blobs[::2])
        session.remove_version(unused)


@pytest.mark.parametrize("kind", [FileKind.DATA, FileKind.INDEX])
def test_restic_does_not_back_up_in_the_middle_of_our_prune(place: Place, kind: FileKind) -> None:
    def back_up() -> None:
        source = str(place.folder.parent / "source")
        assert "already locked exclusively" in place.restic("backup", source, fails=True)

    _leave_half_unused(place)
    storage = Interrupted(place, kind, back_up)
    place.repository(storage).care().prune(PruneOptions(max_unused="0"))
    assert storage.acted
    assert_sound(place, 3)


@pytest.mark.parametrize("kind", [FileKind.DATA, FileKind.INDEX])
def test_a_prune_whose_lock_was_removed_removes_nothing_that_a_backup_meanwhile_relies_on(
    place: Place, kind: FileKind
) -> None:
    source = place.folder.parent / "source"
    forgotten = source / "forgotten"
    forgotten.write_bytes(random.Random(8).randbytes(400_000))
    (source / "beside it in a pack").write_bytes(random.Random(9).randbytes(400_000))
    place.restic("backup", str(source))
    forgotten.rename(place.folder.parent / "put by")
    place.restic("backup", str(source))
    place.restic("forget", "--keep-last", "1", "--path", str(source))

    def unlock_and_back_up() -> None:
        """It finds all data in the index, and adds only trees and its snapshot."""
        (place.folder.parent / "put by").rename(forgotten)
        place.restic("unlock", "--remove-all")
        place.restic("backup", str(source))

    storage = Interrupted(place, kind, unlock_and_back_up)
    with pytest.raises(LockLostError, match="was removed by somebody"):
        place.repository(storage).care().prune(PruneOptions(max_unused="0"))
    assert storage.acted
    assert len(place.snapshots()) == 3
    place.restic("check", "--read-data")
    place.repository(times=AT_ONCE).care().prune(PruneOptions(max_unused="0"))
    assert_sound(place, 3)


# --- removing while a client's version is half received ---


@pytest.mark.parametrize(
    "commands",
    [
        ["forget --keep-last 1 --prune --max-unused 0"],
        ["forget --keep-last 1", "prune --max-unused 0"],
        ["prune --max-unused 0 --repack-small"],
    ],
    ids=["forget and prune at once", "forget, then prune", "prune"],
)
def test_forget_and_prune_in_the_middle_of_a_version_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commands: list[str]
) -> None:
    monkeypatch.setattr("cdr_plugin.client.backup.SegmentBuilder", partial(SegmentBuilder, target=16 * 1024))
    chain = quick_chain(tmp_path)
    user = Shell(tmp_path, {"RESTIC_REPOSITORY": str(chain.repository), "RESTIC_PASSWORD": PASSWORD})
    client, source, noise = chain.new_client(), tmp_path / "source", random.Random(11)
    source.mkdir()

    def next_version() -> list[Path]:
        """Its segments in the inbox; each version replaces half of the files of the one before."""
        for number in range(8):
            if number % 2 or not (source / str(number)).exists():
                (source / str(number)).write_bytes(noise.randbytes(12_000))
        chain.backup(client, source)
        chain.send(client)
        return sorted(chain.inbox.glob("clients/*/*/*"))

    for _ in range(2):
        next_version()
        assert chain.receive().versions_stored == 1
        chain.send(client)
    sent = next_version()
    withheld = {path: path.read_bytes() for path in sent[len(sent) // 2 :]}
    for path in withheld:
        path.unlink()
    assert chain.receive().blobs_new > 0
    assert "cdr-pin" in restic(chain, "snapshots")
    for command in commands:
        user.cdr(*command.split())
    check_repository(chain)
    assert "cdr-pin" in restic(chain, "snapshots")
    left = restic(chain, "snapshots", "--path", str(source))
    assert f"{1 if 'forget' in commands[0] else 2} snapshots" in left
    for path, data in withheld.items():
        path.write_bytes(data)
    result = chain.receive()
    assert (result.versions_stored, result.blobs_missing) == (1, 0)
    check_repository(chain)
    restic(chain, "restore", "latest", "--target", str(tmp_path / "restored"))
    restored = tmp_path / "restored" / source.relative_to("/")
    assert {path.name: path.read_bytes() for path in restored.iterdir()} == {
        path.name: path.read_bytes() for path in source.iterdir()
    }
