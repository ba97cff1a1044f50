"""The time zone of this machine, by its IANA name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_ZONES = "/zoneinfo/"


def local_zone_name(environment: Mapping[str, str] = os.environ, etc: Path = Path("/etc")) -> str:
    """From TZ, /etc/localtime or /etc/timezone; ``UTC`` where nothing names a known zone."""
    return next((name for name in _candidates(environment, etc) if _is_zone(name)), "UTC")


def _candidates(environment: Mapping[str, str], etc: Path) -> Iterator[str]:
    if "TZ" in environment:
        yield environment["TZ"].lstrip(":") or "UTC"
    target = str((etc / "localtime").resolve())
    if _ZONES in target:
        yield target.partition(_ZONES)[2].removeprefix("posix/").removeprefix("right/")
    try:
        yield (etc / "timezone").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True
