"""Cheap looks at the machine: clocks, the network's default routes, whether a file changed."""

from __future__ import annotations

import time
from pathlib import Path

from cdr_plugin.agent.elapsed import Clock

_ROUTES = ("/proc/net/route", "/proc/net/ipv6_route")
_MAX_ROUTE_BYTES = 256 * 1024

# Counts while the machine is suspended too, where the system has it.
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def read_clock() -> Clock:
    """Both clocks now."""
    return Clock(time.time(), time.clock_gettime(_STEADY))


def default_routes() -> frozenset[tuple[str, ...]]:
    """Interface and gateway of each default route; changes when the machine comes into another network.
    Empty where the system does not tell. Costs some 50 microseconds."""
    return frozenset(route for path in _ROUTES for line in _lines(path) if (route := _default_route(line.split())))


def _default_route(fields: list[str]) -> tuple[str, ...]:
    if len(fields) >= 11 and fields[1] == "00000000":  # IPv4: interface, destination, gateway, ...
        return fields[0], fields[2]
    if len(fields) == 10 and fields[1] == "00" and set(fields[0]) == {"0"} and fields[9] != "lo":
        return fields[9], fields[4]  # IPv6: destination, its length, source, its length, gateway, ... interface
    return ()


def _lines(path: str) -> list[str]:
    try:
        with Path(path).open("rb") as file:
            return file.read(_MAX_ROUTE_BYTES).decode("ascii", "replace").splitlines()
    except OSError:
        return []


def stamp(path: Path) -> tuple[int, ...]:
    """Differs when the file was replaced or written; empty when there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
