"""Bytes, times and tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def format_bytes(count: float) -> str:
    """``1.234 GiB``, as restic prints it."""
    unit = 0
    while count >= 1024 and unit < len(_UNITS) - 1:
        count /= 1024
        unit += 1
    return f"{count:.0f} B" if unit == 0 else f"{count:.3f} {_UNITS[unit]}"


def format_duration(seconds: float) -> str:
    """``1:05`` or ``2:01:05``."""
    hours, rest = divmod(int(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"


def format_age(seconds: float) -> str:
    """``3 days``: the largest unit that fits, for ages of versions."""
    for name, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // length)
        if count:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "now"


def format_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns two spaces apart; numbers to the right."""
    columns = [_column(header, cells) for header, *cells in zip(headers, *rows, strict=True)]
    return "\n".join("  ".join(line).rstrip() for line in zip(*columns, strict=True))


def printable(text: str) -> str:
    """One line that cannot move the cursor: names come from other people's machines."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _column(header: str, cells: Sequence[object]) -> list[str]:
    """Header, rule and cells, all of one width."""
    texts = [header, *(printable(str(cell)) for cell in cells)]
    width = max(map(len, texts))
    to_right = bool(cells) and all(isinstance(cell, int | float) for cell in cells)
    padded = [text.rjust(width) if to_right else text.ljust(width) for text in texts]
    return [padded[0], "-" * width, *padded[1:]]
