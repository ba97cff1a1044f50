"""Times of the week as users write them, and when the next of them begins and ends.

Everything is reckoned with the clock on the wall: on the two days a year on which it is changed, a window
is an hour shorter or longer, and opens and closes when the clock shows so.
"""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from datetime import time as clock_time
from itertools import product

from cdr_plugin.model.quantities import show

_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_DAY = f"(?:{'|'.join(_NAMES)})"
_DAYS = rf"{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_HOURS = re.compile(rf"({_DAYS})|(?:({_DAYS}) )?({_CLOCK})-({_CLOCK}|24:00)").fullmatch
_DAY_MINUTES = 24 * 60
_WEEK_MINUTES = 7 * _DAY_MINUTES
_AHEAD_DAYS = 8  # whatever opens at all opens within a week


@dataclass(frozen=True, slots=True)
class Hours:
    """On these days (Monday is 0) from one minute of the day to another, which may be of the next day."""

    days: frozenset[int]
    opens: int
    closes: int


def parse_hours(text: object) -> Hours:
    """ValueError when it is no window."""
    match = _HOURS(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f'expected a window such as "Mon-Fri 08:00-18:00", not {show(text)}')
    opens, closes = (_minutes(match[3]), _minutes(match[4])) if match[3] else (0, _DAY_MINUTES)
    if opens == closes:
        raise ValueError(f'the window {show(text)} closes as it opens; write "00:00-24:00" for the whole day')
    return Hours(_days(match[1] or match[2]), opens, closes if closes > opens else closes + _DAY_MINUTES)


def _minutes(clock: str) -> int:
    hours, _, minutes = clock.partition(":")
    return int(hours) * 60 + int(minutes)


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    return frozenset(day for part in text.split(",") for day in _run_of_days(part))


def _run_of_days(part: str) -> Iterable[int]:
    """``Fri-Mon`` goes over the end of the week."""
    first, _, last = part.partition("-")
    start = _NAMES.index(first)
    length = (_NAMES.index(last or first) - start) % 7
    return ((start + step) % 7 for step in range(length + 1))


def minutes_of(hours: Iterable[Hours]) -> int:
    """A bit for each minute of the week, from Monday 00:00 on: set where any of the windows is open."""
    mask = 0
    for one in hours:
        for day in one.days:
            mask |= ((1 << (one.closes - one.opens)) - 1) << (day * _DAY_MINUTES + one.opens)
    return (mask | mask >> _WEEK_MINUTES) & ((1 << _WEEK_MINUTES) - 1)


def windows_of(mask: int) -> list[str]:
    """Windows, none over midnight, that are open in just the minutes whose bits are set."""
    days_of: dict[tuple[int, int], list[str]] = defaultdict(list)
    for day, name in enumerate(_NAMES):
        bits = f"{mask >> day * _DAY_MINUTES & ((1 << _DAY_MINUTES) - 1):0{_DAY_MINUTES}b}"[::-1]
        for run in re.finditer("1+", bits):
            days_of[run.span()].append(name)
    hours = sorted(days_of.items())
    return [f"{_as_days(days)} {_clock(opens)}-{_clock(closes)}" for (opens, closes), days in hours]


def _as_days(days: Sequence[str]) -> str:
    """``Mon-Fri`` for all that lie in a row, else one by one."""
    first, last = (_NAMES.index(day) for day in (days[0], days[-1]))
    in_a_row = len(days) > 2 and last - first + 1 == len(days)
    return f"{days[0]}-{days[-1]}" if in_a_row else ",".join(days)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def next_spell(hours: Sequence[Hours], now_s: float, zone: tzinfo | None) -> tuple[float, float]:
    """When it opens and closes again, in seconds since 1970: the spell that holds ``now_s``, else the next
    one. Windows without a gap between them are one spell; one without an end ends in a week or more."""
    if zone is None:
        time.tzset()  # this machine may have travelled since
    today = datetime.fromtimestamp(now_s, zone).date()
    days = [today + timedelta(days=step) for step in range(-1, _AHEAD_DAYS + 1)]
    spells = sorted(
        (_moment(day, one.opens, zone), _moment(day, one.closes, zone))
        for day, one in product(days, hours)
        if day.weekday() in one.days
    )
    opens_s = closes_s = float("-inf")
    for start_s, end_s in spells:
        if start_s >= end_s:  # in the hour that is left out when the clock is put forward
            continue
        if start_s > closes_s:  # a gap, in front of which the last spell may be what is asked for
            if closes_s > now_s:
                break
            opens_s = start_s
        closes_s = max(closes_s, end_s)
    return opens_s, closes_s


def _moment(day: date, minutes: int, zone: tzinfo | None) -> float:
    days, rest = divmod(minutes, _DAY_MINUTES)
    return datetime.combine(day + timedelta(days=days), clock_time(*divmod(rest, 60)), zone).timestamp()


def weekday_and_clock(moment_s: float, zone: tzinfo | None) -> str:
    """``Mon 08:00``."""
    local = datetime.fromtimestamp(moment_s, zone)
    return f"{_NAMES[local.weekday()]} {local:%H:%M}"
