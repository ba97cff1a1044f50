"""What a ``[...reduce.delta]`` table may say."""

from __future__ import annotations

from dataclasses import dataclass, field

from cdr_plugin.contracts import Settings
from cdr_plugin.errors import UserError

BLOCK_SIZES = tuple(1 << bits for bits in range(9, 17))
DEFAULT_BLOCK_SIZE = 512
"""A SQLite database of 150 MB with 1,300 rows updated travels in 1.71 MB with blocks of 512 bytes, 2.57 with 1 KiB,
3.9 with 2 KiB, 5.3 with 4 KiB; rdiff of 1 KiB, then zstd: 2.05. Signatures take 1.6 % of the data."""
DEFAULT_LEVEL = 9
"""Literals are few, so that it costs nothing: from Django 4.0 to 4.1 contents travel in 2.18 MB at level 3, 2.08 at 9,
2.00 at 15, in 2.1, 2.0 and 3.8 seconds of CPU time; with the bytes of the baseline in 720, 647 and 605 kB."""
MAX_LEVEL = 19
"""Above it the window may pass the 8 MiB that decoders grant."""
KEY_BYTES = 32

_KEYS = ("block_size", "level")


@dataclass(frozen=True, slots=True)
class DeltaSettings:
    """``block_size`` in bytes; ``level``: zstd's, for literals; ``key``: the client's secret, None where
    nothing is to be remembered."""

    block_size: int
    level: int
    key: bytes | None = field(default=None, repr=False)


def checked(settings: Settings) -> DeltaSettings:
    """The settings; UserError. ``key`` comes from the client's state, not from the user."""
    for name in settings:
        if name not in (*_KEYS, "key"):
            raise UserError(f"reduce.delta: unknown key {name!r}; there are: {', '.join(_KEYS)}")
    block_size = settings.get("block_size", DEFAULT_BLOCK_SIZE)
    if type(block_size) is not int or block_size not in BLOCK_SIZES:
        raise UserError(
            f"reduce.delta: block_size must be a power of two from {BLOCK_SIZES[0]} to {BLOCK_SIZES[-1]} bytes, "
            f"not {block_size!r}"
        )
    level = settings.get("level", DEFAULT_LEVEL)
    if type(level) is not int or not 1 <= level <= MAX_LEVEL:
        raise UserError(f"reduce.delta: level must be a whole number from 1 to {MAX_LEVEL}, not {level!r}")
    key = settings.get("key")
    if key is not None and (type(key) is not bytes or len(key) != KEY_BYTES):
        raise UserError("reduce.delta: key is not for users to set; remove it")
    return DeltaSettings(block_size, level, key)
