"""Times as restic writes them: RFC 3339 in a fixed zone, up to nine fraction digits.

Python's ``datetime`` stops at microseconds and year 1..9999, so seconds and nanoseconds are
kept apart and only whole seconds pass through it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache

from cdr_plugin.errors import FormatError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# restic clamps years to 0..9999; datetime has no year 0, and nothing on a disk does either.
_MIN_S = int((datetime(1, 1, 2, tzinfo=UTC) - _EPOCH).total_seconds())
_MAX_S = int((datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH).total_seconds())
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:Z|([+-])(\d\d):(\d\d))"
).fullmatch

TimeFormatter = Callable[[int, int], str]
"""(seconds since 1970, nanoseconds 0..999999999) -> RFC 3339 text."""


def time_formatter(zone: tzinfo) -> TimeFormatter:
    """A formatter for one zone; it remembers recent seconds, since files of a folder share them."""

    @lru_cache(maxsize=65536)
    def whole(seconds: int) -> tuple[str, str]:
        clamped = min(max(seconds, _MIN_S), _MAX_S)
        local = (_EPOCH + timedelta(seconds=clamped)).astimezone(zone)
        return f"{local:%Y-%m-%dT%H:%M:%S}".rjust(19, "0"), _offset(local.utcoffset())

    def format_time(seconds: int, nanoseconds: int) -> str:
        prefix, offset = whole(seconds)
        if nanoseconds:
            return f"{prefix}.{nanoseconds:09d}".rstrip("0") + offset
        return prefix + offset

    return format_time


def _offset(offset: timedelta | None) -> str:
    seconds = int(offset.total_seconds()) if offset else 0
    if seconds == 0:
        return "Z"
    sign = "-" if seconds < 0 else "+"
    hours, minutes = divmod(abs(seconds) // 60, 60)
    # Go cuts the seconds of historic offsets off; +00:00 would not survive a round trip there.
    return f"{sign}{hours:02d}:{minutes:02d}"


def parse_time(text: str) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds of an RFC 3339 time; FormatError when it is none."""
    match = _RFC3339(text)
    if match is None:
        raise FormatError(f"{text[:40]!r} is not an RFC 3339 time")
    year, month, day, hour, minute, second, fraction, sign, off_h, off_m = match.groups()
    try:
        whole = datetime(max(int(year), 1), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError as error:
        raise FormatError(f"{text[:40]!r} is not an RFC 3339 time: {error}") from None
    offset_s = (int(off_h) * 3600 + int(off_m) * 60) * (-1 if sign == "-" else 1) if sign else 0
    seconds = int((whole - _EPOCH).total_seconds()) - offset_s
    if int(year) == 0:
        seconds -= 366 * 86400
    return seconds, int((fraction or "").ljust(9, "0"))


_STRICT = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{0,8}[1-9])?"
    r"(?:Z|[+-](?!00:00)(?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
).fullmatch


def check_time(text: str) -> None:
    """Raise FormatError unless ``parse_time`` and Go both read ``text``, and Go writes it back as it
    is: no zeros behind the fraction, ``Z`` for no offset. A tenth of the cost of parsing."""
    if _STRICT(text) is None or not _is_date(text[:10]):
        raise FormatError(f"{text[:40]!r} is not an RFC 3339 time")


@lru_cache(maxsize=4096)
def _is_date(text: str) -> bool:
    try:
        parse_time(f"{text}T00:00:00Z")
    except FormatError:
        return False
    return True
