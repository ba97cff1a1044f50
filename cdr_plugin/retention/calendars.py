"""Times as a policy sees them: an instant, and the date and hour on the clock that wrote it.

Everything here works in the offset that the text states, never in the zone of this machine, so that
the same repository gives the same answer everywhere.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple, TypeAlias

from cdr_plugin.model.times import parse_time

Instant: TypeAlias = tuple[int, int]
"""Seconds since 1970, nanoseconds."""

_EPOCH_DAY = date(1970, 1, 1).toordinal()
_CYCLE_YEARS, _CYCLE_DAYS = 400, 146_097
"""The calendar repeats so, weeks included; ``datetime`` knows 2000 to 2399 for all of them."""


class Moment(NamedTuple):
    """One RFC 3339 time."""

    instant: Instant
    year: int
    month: int
    day: int
    hour: int
    week: tuple[int, int]
    """ISO 8601: year and number."""
    offset_s: int
    """Local time minus UTC."""


def moment(text: str) -> Moment:
    """FormatError when ``text`` is no RFC 3339 time."""
    instant = parse_time(text)
    year, month, day, hour, minute, second = (
        int(text[at : at + width]) for at, width in ((0, 4), (5, 2), (8, 2), (11, 2), (14, 2), (17, 2))
    )
    local_s = day_number(year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    return Moment(instant, year, month, day, hour, _iso_week(year, month, day), local_s - instant[0])


def day_number(year: int, month: int, day: int) -> int:
    """Days since 1970. ``month`` and ``day`` may lie outside of the year and the month: they roll over."""
    more_years, month0 = divmod(month - 1, 12)
    cycles, year_in_cycle = divmod(year + more_years, _CYCLE_YEARS)
    first = date(2000 + year_in_cycle, month0 + 1, 1).toordinal() - _EPOCH_DAY
    return first + (cycles - 5) * _CYCLE_DAYS + day - 1


def _iso_week(year: int, month: int, day: int) -> tuple[int, int]:
    shift = year - year % _CYCLE_YEARS - 2000
    found = date(year - shift, month, day).isocalendar()
    return found.year + shift, found.week
