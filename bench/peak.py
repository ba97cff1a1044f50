"""The most memory that a process and all its children hold at one time, by looking ten times a second.

What processes share is counted once (proportional set size), so that workers are neither hidden nor
counted double.
"""

from __future__ import annotations

import re
from pathlib import Path
from threading import Event, Thread
from types import TracebackType
from typing import Self

EVERY_S = 0.1
_pss_kib = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)


class TreePeak:
    """Watches process ``pid`` while the ``with`` block lasts; ``bytes`` is the largest sum seen."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._stopped = Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self.bytes = max(self.bytes, sum(map(_held, _tree(self._pid))))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for known in found:
        try:
            for children in Path(f"/proc/{known}/task").glob("*/children"):
                found += map(int, children.read_text().split())
        except OSError:
            continue  # it has ended meanwhile
    return found


def _held(pid: int) -> int:
    try:
        match = _pss_kib.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0
