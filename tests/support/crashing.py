"""Kills a child process at its Nth durable operation, or when a timer runs out.

The child is a fork: it inherits what a test has patched. Its durable operations (see ``_CALLS``, and
the two sides of every SQLite commit) are counted; the chosen one is preceded by SIGKILL.
"""

from __future__ import annotations

import itertools
import mmap
import os
import select
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cdr_plugin.database import Database

_CALLS = (
    "write", "fsync", "ftruncate", "copy_file_range", "rename", "replace", "link", "unlink", "mkdir", "rmdir", "chmod",
)  # fmt: skip

Action = Callable[[], object]


class Counted:
    """What became of a child: whether it was killed, and how many operations it had begun."""

    def __init__(self, killed: bool, operations: int) -> None:
        self.killed = killed
        self.operations = operations


def kill_at(at: int, action: Action) -> Counted:
    """Run ``action`` in a child that dies just before its durable operation number ``at`` (from 1)."""
    with mmap.mmap(-1, 8) as shared:
        child = _fork(action, lambda: _count_operations(at, shared))
        killed = _ended(child)
        return Counted(killed, struct.unpack("<q", shared[:8])[0])


def kill_after(delay_s: float, action: Action) -> bool:
    """Run ``action`` in a child that is killed after ``delay_s``, unless it has ended; was it killed?"""
    child = _fork(action, lambda: None)
    watch = os.pidfd_open(child)
    try:
        if not select.select([watch], [], [], delay_s)[0]:
            os.kill(child, signal.SIGKILL)
    finally:
        os.close(watch)
    return _ended(child)


@contextmanager
def beside(action: Action) -> Iterator[int]:
    """``action`` runs in a child while the block does, which must leave nothing for it to wait for."""
    child = _fork(action, lambda: None)
    try:
        yield child
    except BaseException:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise
    assert not _ended(child)


def has_ended(child: int) -> bool:
    """Whether a child beside us is done; it stays to be waited for."""
    watch = os.pidfd_open(child)
    try:
        return bool(select.select([watch], [], [], 0)[0])
    finally:
        os.close(watch)


def _fork(action: Action, prepare: Action) -> int:
    child = os.fork()
    if child:
        return child
    try:
        prepare()
        action()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def _ended(child: int) -> bool:
    """Wait for a child; AssertionError when it failed otherwise than by our kill."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0, "the child failed, see its traceback"
    return False


def _count_operations(at: int, shared: mmap.mmap) -> None:
    numbers = itertools.count(1)  # ``next`` of it is atomic

    def tick() -> None:
        number = next(numbers)
        shared[:8] = struct.pack("<q", number)
        if number == at:
            os.kill(os.getpid(), signal.SIGKILL)

    for name in _CALLS:
        setattr(os, name, _ticking(getattr(os, name), tick))
    transaction = Database.transaction

    @contextmanager
    def counted(database: Database) -> Iterator[Any]:
        with transaction(database) as connection:
            yield connection
            tick()
        tick()

    Database.transaction = counted  # type: ignore[assignment,method-assign]


def _ticking(real: Callable[..., object], tick: Action) -> Callable[..., object]:
    def call(*arguments: object, **named: object) -> object:
        tick()
        return real(*arguments, **named)

    return call
