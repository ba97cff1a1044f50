"""Runs one command and says what it cost; measures the disk."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.peak import TreePeak

SECTOR = 512
"""Bytes; the unit in which the kernel counts a process's output."""


class BenchError(Exception):
    """A command failed; the text names it and ends with its last words."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command and all its children took. A page counts as written when it becomes dirty."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    written_bytes: int

    def __add__(self, other: Cost) -> Cost:
        """One after the other."""
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.peak_bytes, other.peak_bytes),
            self.written_bytes + other.written_bytes,
        )


class Runner:
    """Runs commands with their defaults, not the user's; their output goes to ``log``."""

    def __init__(self, log: Path) -> None:
        settings = ("RESTIC_", "CDR_", "RSYNC_")
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith(settings)}
        self._log = log

    def __call__(self, *command: str) -> Cost:
        """Run to the end. What was dirty before is written first, so that nobody pays for another.

        Raises BenchError when the exit code is not 0. The peak cannot be less than this process's own
        (the kernel hands the parent's on through fork), about 20 MB.
        """
        os.sync()
        with self._log.open("a") as log:
            log.write(f"\n$ {' '.join(command)}\n")
        started = time.perf_counter()
        child = os.posix_spawnp(command[0], command, self._environment, file_actions=self._files())
        with TreePeak(child) as tree:
            _, status, used = os.wait4(child, 0)
            wall_s = time.perf_counter() - started
        if status != 0:
            code = os.waitstatus_to_exitcode(status)
            raise BenchError(f"{' '.join(command)}: exit code {code}\n{self._last_words()}")
        peak = max(used.ru_maxrss * 1024, tree.bytes)
        return Cost(wall_s, used.ru_utime + used.ru_stime, peak, used.ru_oublock * SECTOR)

    def _files(self) -> Sequence[tuple[int, ...] | tuple[int, int, str, int, int]]:
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        return [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]

    def _last_words(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - 2000))
            return log.read().decode(errors="replace")


def write_rate(folder: Path, size: int = 512 << 20) -> float:
    """Bytes per second of writing a new file with one fsync at the end, as ``dd conv=fsync`` does."""
    block = Random(1).randbytes(1 << 20)
    target = folder / "write-rate.tmp"
    os.sync()
    started = time.perf_counter()
    with target.open("wb", buffering=0) as file:
        for _ in range(size // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    taken = time.perf_counter() - started
    target.unlink()
    return size / taken


def size_of(folder: Path) -> int:
    """Bytes of the regular files below, a hard-linked file counted once; 0 when there is no such folder."""
    sizes: dict[tuple[int, int], int] = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            facts = os.lstat(os.path.join(parent, name))
            sizes[facts.st_dev, facts.st_ino] = facts.st_size
    return sum(sizes.values())


def read_all(folder: Path) -> None:
    """Bring every file into the page cache, for the same warm start of all."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb", buffering=0) as file:
                while file.read(1 << 20):
                    pass
