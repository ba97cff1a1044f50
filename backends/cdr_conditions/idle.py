"""``disk_idle`` and ``network_idle``: others move few bytes just now, by the kernel's counters."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import parse_rate

SAMPLE_S = 0.25
"""Seconds between two looks at the counters."""
_SECTOR_BYTES = 512  # in /proc/diskstats, whatever the disk has


class Idle(Condition):
    """A rate that the bytes moved in a quarter of a second must stay below. Asked before the work only:
    the work itself moves bytes."""

    _what: str

    def __init__(
        self,
        counters: Path,
        devices: Path,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """``counters``: the kernel's file; ``devices``: the folder that tells which have hardware."""
        self._counters = counters
        self._devices = devices
        self._clock = clock
        self._sleep = sleep

    def check(self, value: Any) -> None:
        try:
            parse_rate(value)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        return min(other, one, key=parse_rate)

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        if occasion.is_under_way:
            return Verdict(True)
        rate = self._rate()
        if rate < parse_rate(value):
            return Verdict(True)
        return Verdict(False, f"waiting for the {self._what} to move less than {value} (now {rate / 1024:.0f}KiB/s)")

    def _rate(self) -> float:
        """Bytes per second, read and written, over all devices."""
        start_s, before = self._clock(), self._bytes()
        self._sleep(SAMPLE_S)
        after, end_s = self._bytes(), self._clock()
        # A device that came or went meanwhile, or whose counter began anew, says nothing.
        moved = sum(max(after[name] - count, 0) for name, count in before.items() if name in after)
        return moved / max(end_s - start_s, SAMPLE_S / 2)

    def _bytes(self) -> dict[str, int]:
        """Bytes so far by device: of those with hardware behind them, since others count the same bytes
        again (partitions, bridges); of all where there is no hardware, as in containers."""
        try:
            lines = self._counters.read_text().splitlines()
        except OSError:
            return {}
        found = dict(self._parse(lines))
        real = {name: count for name, count in found.items() if (self._devices / name / "device").exists()}
        return real or found

    @abstractmethod
    def _parse(self, lines: list[str]) -> Iterator[tuple[str, int]]:
        """Device and bytes of each line that is about one."""


class DiskIdle(Idle):
    name = "disk_idle"
    _what = "disks"

    def __init__(
        self,
        counters: Path = Path("/proc/diskstats"),
        devices: Path = Path("/sys/block"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(counters, devices, clock, sleep)

    def _parse(self, lines: list[str]) -> Iterator[tuple[str, int]]:
        for line in lines:
            fields = line.split()  # major, minor, name, reads, merged, sectors, ms, writes, merged, sectors, ...
            if len(fields) >= 10:
                yield fields[2], (int(fields[5]) + int(fields[9])) * _SECTOR_BYTES


class NetworkIdle(Idle):
    name = "network_idle"
    _what = "network"

    def __init__(
        self,
        counters: Path = Path("/proc/net/dev"),
        devices: Path = Path("/sys/class/net"),
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(counters, devices, clock, sleep)

    def _parse(self, lines: list[str]) -> Iterator[tuple[str, int]]:
        for line in lines:
            name, colon, rest = line.partition(":")
            fields = rest.split()  # eight of what was received, bytes first, then of what was sent
            if colon and len(fields) >= 9 and name.strip() != "lo":
                yield name.strip(), int(fields[0]) + int(fields[8])
