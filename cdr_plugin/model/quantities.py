"""Sizes, rates and durations as users write them. ValueError says what would be right."""

from __future__ import annotations

import re

_BINARY = "KMGTP"
_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{unit.lower(): 1024 ** (power + 1) for power, unit in enumerate(_BINARY)},
    **{f"{unit}iB".lower(): 1024 ** (power + 1) for power, unit in enumerate(_BINARY)},
    **{f"{unit}B".lower(): 1000 ** (power + 1) for power, unit in enumerate(_BINARY)},
}
"""``4G`` is 4 GiB, as restic reads it; ``4GB`` is decimal."""

_SECONDS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}

_SIZE = re.compile(r"(\d{1,19})(?:\.(\d{1,6}))?\s*([A-Za-z]*)").fullmatch
_DURATION = re.compile(r"(?:\d{1,9}[wdhms])+").fullmatch
_DURATION_PART = re.compile(r"(\d+)([wdhms])")


def parse_size(value: object) -> int:
    """Bytes: ``"4GiB"``, ``"1.5 TB"``, ``"512K"``, or a whole number of bytes."""
    if type(value) is int and value > 0:
        return value
    match = _SIZE(value.strip()) if isinstance(value, str) else None
    unit = _UNITS.get(match[3].lower()) if match else None
    # Whole numbers throughout: a float is exact only up to 8 PiB.
    size = int(match[1]) * unit + int((match[2] or "0").ljust(6, "0")) * unit // 10**6 if match and unit else 0
    if size < 1:
        raise ValueError(f'expected a size such as "4GiB", not {show(value)}')
    return size


def parse_rate(value: object) -> int:
    """Bytes per second: ``"2MiB/s"``."""
    if isinstance(value, str) and value.strip().endswith("/s"):
        try:
            return parse_size(value.strip()[:-2])
        except ValueError:
            pass
    raise ValueError(f'expected a rate such as "2MiB/s", not {show(value)}')


def parse_duration(value: object) -> int:
    """Seconds: ``"14d"``, ``"1h30m"``; units w, d, h, m (minutes), s."""
    if isinstance(value, str) and _DURATION(value):
        seconds = sum(int(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(value))
        if seconds > 0:
            return seconds
    raise ValueError(f'expected a duration such as "14d", "1h" or "5m", not {show(value)}')


def format_size(size: int) -> str:
    """The shortest exact spelling: ``4GiB``."""
    for power in range(len(_BINARY), 0, -1):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{_BINARY[power - 1]}iB"
    return f"{size}B"


def format_rate(rate: int) -> str:
    return f"{format_size(rate)}/s"


def format_duration(seconds: int) -> str:
    """The exact spelling: ``1d12h``."""
    parts = []
    for unit, length in list(_SECONDS.items())[1:]:
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def show(value: object) -> str:
    """A wrong value in a message, short, as TOML spells it where that differs from Python."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return f'"{value[:60]}"' if isinstance(value, str) else str(value)[:60]
