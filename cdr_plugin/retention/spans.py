"""Spans of time in restic's spelling, ``1y5m7d2h``: calendar years, months and days, then hours."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cdr_plugin.errors import UserError
from cdr_plugin.retention.calendars import Instant, Moment, day_number

_SPAN = re.compile(r"(?:\d{1,9}[ymdh])+", re.ASCII).fullmatch
_PART = re.compile(r"(\d+)([ymdh])", re.ASCII)


@dataclass(frozen=True, slots=True)
class Span:
    """``m`` is months. ``str`` gives the shortest spelling, empty for no time at all."""

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))

    def __str__(self) -> str:
        parts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{count}{unit}" for count, unit in parts if count)

    def before(self, moment: Moment) -> Instant:
        """The instant that lies this span before ``moment`` on its own clock; days that the month has
        not roll over: a month before 31 March is 3 March, or 2 March in a leap year."""
        day = day_number(moment.year - self.years, moment.month - self.months, moment.day - self.days)
        seconds, nanoseconds = moment.instant
        time_of_day_s = (seconds + moment.offset_s) % 86400
        return day * 86400 + time_of_day_s - moment.offset_s - self.hours * 3600, nanoseconds


NO_SPAN = Span()


def parse_span(text: str) -> Span:
    """UserError. Of a unit that is given twice the last counts, as for restic."""
    if not _SPAN(text):
        raise UserError(f'{text!r} is no span of time; write years, months, days, hours as in "1y6m7d12h"')
    counts = {unit: int(count) for count, unit in _PART.findall(text)}
    return Span(counts.get("y", 0), counts.get("m", 0), counts.get("d", 0), counts.get("h", 0))
