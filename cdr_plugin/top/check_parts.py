"""Which packs a scheduled check reads: part after part, so that in the end all were read.

A pack belongs to the part that the first byte of its ID says, as for restic's ``n/t``; packs that are added or
removed move no other into another part.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

MAX_PARTS = 256
"""The first byte of an ID tells no more apart."""

_PART = re.compile(r"(\d+)/(\d+)").fullmatch
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)%").fullmatch


@dataclass(frozen=True, slots=True)
class Part:
    """Part ``number`` (from 1) of ``count``; as restic spells it: ``3/20``."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    @property
    def next(self) -> Part:
        return Part(self.number % self.count + 1, self.count)


def first_part(configured: str) -> Part | None:
    """Where a percentage or ``n/t`` begins; None for what does not rotate: a size, or nothing.

    A percentage becomes as many parts as make each no larger than that, at most ``MAX_PARTS``.
    """
    if part := _PART(configured):
        return Part(int(part[1]), int(part[2]))
    if percent := _PERCENT(configured):
        return Part(1, min(math.ceil(100 / Fraction(percent[1])), MAX_PARTS))
    return None


def part_to_read(configured: str, last: Part | None) -> Part | None:
    """The part that comes behind ``last``. A configuration that cuts the packs otherwise begins anew."""
    first = first_part(configured)
    if first is None or last is None or last.count != first.count:
        return first
    return last.next
