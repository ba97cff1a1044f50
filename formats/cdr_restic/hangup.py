"""Survives ``restic unlock``.

restic asks whether a lock of this machine is stale by sending SIGHUP to the process that it
names, and so would end every process that, unlike restic, does not ignore that signal.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_mutex = threading.Lock()
_holders = 0
_ours = False


@contextmanager
def hangup_ignored() -> Iterator[None]:
    """SIGHUP does not end this process while any such block lasts; handlers of others stay.

    Only the main thread can change that: a program that takes locks in other threads ignores
    SIGHUP from its start, as the command line of CDR does for commands that open repositories.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _holders, _ours
    with _mutex:
        _holders += 1
        if _in_main_thread() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            _ours = True


def _leave() -> None:
    global _holders, _ours
    with _mutex:
        _holders -= 1
        if _ours and not _holders and _in_main_thread():
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            _ours = False


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
