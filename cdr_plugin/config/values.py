"""Small values with rules of their own. ValueError says what would be right."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from cdr_plugin.model.quantities import parse_size, show

_RESTIC_DURATION = re.compile(r"(?:\d{1,9}[ymdh])+").fullmatch
_MOST_PARTS = 256
"""As for restic: packs are told apart by the first byte of their ID."""
_PART = re.compile(r"(\d+)/(\d+)").fullmatch
_FACT_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
FOUND_FACTS = frozenset({"host", "system", "timezone"})
_MAX_STATED_FACTS = 32
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%").fullmatch


def command(value: object) -> str:
    """A command line for the shell."""
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        raise ValueError(f"expected a command, not {show(value)}")
    return value


def time_zone(value: object) -> str:
    """A time zone that this machine knows."""
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(str(value)).key
    except (OSError, ValueError, KeyError):
        raise ValueError(f'expected a time zone such as "Europe/Berlin", not {show(value)}') from None


def source_map(value: object) -> dict[str, str]:
    """Absolute path -> absolute path."""
    if not isinstance(value, dict):
        raise ValueError(f"expected a table of paths, not {show(value)}")
    return {_absolute(now): _absolute(shown) for now, shown in value.items()}


def _absolute(value: object) -> str:
    if not isinstance(value, str) or not value.startswith("/") or ".." in PurePosixPath(value).parts:
        raise ValueError(f"expected an absolute path, not {show(value)}")
    return str(PurePosixPath(value))


def stated_facts(value: object) -> dict[str, str]:
    """Name -> text, of what CDR does not find out itself."""
    if not isinstance(value, dict) or len(value) > _MAX_STATED_FACTS:
        raise ValueError(f'expected facts such as {{ site = "berlin" }}, not {show(value)}')
    for name, text in value.items():
        if name in FOUND_FACTS:
            raise ValueError(f"{name!r} is found out by cdr itself; give the fact another name")
        if not _FACT_NAME(name) or not isinstance(text, str) or not 0 < len(text) <= 255:
            raise ValueError(f'expected facts such as {{ site = "berlin" }}, not {show(name)} = {show(text)}')
    return dict(value)


def keep_count(value: object) -> int:
    """How many versions a rule keeps; -1 is all, as in restic."""
    if type(value) is not int or value < -1:
        raise ValueError(f"expected a number of versions (-1: all), not {show(value)}")
    return value


def restic_duration(value: object) -> str:
    """restic's ``1y5m7d2h``, where m is months."""
    if not isinstance(value, str) or not _RESTIC_DURATION(value):
        raise ValueError(f'expected years, months, days, hours as in "1y6m7d12h", not {show(value)}')
    return value


def fraction(value: object) -> str:
    """restic's ``--read-data-subset``: ``5%``, ``1/10`` or a size."""
    if isinstance(value, str):
        part, percent = _PART(value), _PERCENT(value)
        if part and 0 < int(part[1]) <= int(part[2]) <= _MOST_PARTS:
            return value
        if percent and 0 < float(percent[1]) <= 100:
            return value
        if not part and not percent and _is_size(value):
            return value
    raise ValueError(f'expected a part such as "5%", "1/10" or "500M", not {show(value)}')


def _is_size(value: str) -> bool:
    try:
        return parse_size(value) > 0
    except ValueError:
        return False
