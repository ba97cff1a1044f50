"""Spans and calendars."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.retention.calendars import day_number, moment
from cdr_plugin.retention.spans import Span, parse_span
from tests.retention.versions import OFFSETS_MIN, time_text
from tests.support.patience import PATIENT

_counts = st.integers(0, 999)


@given(st.dates())
@PATIENT
def test_days_and_weeks_are_those_of_the_calendar(day: date) -> None:
    found = moment(f"{day:%Y-%m-%dT12:00:00Z}".rjust(20, "0"))
    assert day_number(day.year, day.month, day.day) * 86400 + 43200 == found.instant[0]
    assert found.week == day.isocalendar()[:2]


@given(st.dates(), st.integers(-5000, 5000), st.integers(-100_000, 100_000))
@PATIENT
def test_months_and_days_roll_over(day: date, months: int, days: int) -> None:
    years, month = divmod(day.month - 1 + months, 12)
    assert day_number(day.year, day.month + months, 1) == day_number(day.year + years, month + 1, 1)
    assert day_number(day.year, day.month, day.day + days) == day_number(day.year, day.month, day.day) + days


@given(st.integers(-(10**10), 10**11), st.sampled_from(OFFSETS_MIN))
@PATIENT
def test_a_moment_is_an_instant_on_a_clock_of_its_own(seconds: int, offset_min: int) -> None:
    found = moment(time_text(seconds, offset_min))
    assert found.instant == (seconds, 0)
    assert found.offset_s == offset_min * 60
    assert day_number(*found[1:4]) * 86400 + found.hour * 3600 == (seconds + offset_min * 60) // 3600 * 3600


@pytest.mark.parametrize(
    ("span", "reference", "before"),
    [
        ("1m", "2023-03-31T10:00:00Z", "2023-03-03T10:00:00Z"),
        ("1m", "2024-03-31T10:00:00Z", "2024-03-02T10:00:00Z"),
        ("1y", "2024-02-29T00:00:00Z", "2023-03-01T00:00:00Z"),
        ("1y5m7d2h", "2024-01-01T01:30:00Z", "2022-07-24T23:30:00Z"),
        ("1m", "2024-01-01T00:30:00+01:00", "2023-12-01T00:30:00+01:00"),
        ("13m", "2024-01-31T23:30:00-10:00", "2022-12-31T23:30:00-10:00"),
        ("400y", "2024-02-29T00:00:00Z", "1624-02-29T00:00:00Z"),
    ],
)
def test_spans_are_counted_back_on_the_calendar(span: str, reference: str, before: str) -> None:
    assert parse_span(span).before(moment(reference)) == moment(before).instant


def test_a_span_may_reach_back_beyond_all_calendars() -> None:
    reference = moment("2024-01-01T00:00:00Z")
    assert parse_span("999999999y").before(reference) < moment("0001-01-02T00:00:00Z").instant


@given(_counts, _counts, _counts, _counts)
@PATIENT
def test_a_span_survives_its_spelling(years: int, months: int, days: int, hours: int) -> None:
    span = Span(years, months, days, hours)
    assert not span or parse_span(str(span)) == span
    assert bool(span) == bool(str(span))


@pytest.mark.parametrize("text", ["", "5", "d", "-1d", "1d -1h", "1w", "1.5d", "1d\n", "٣d", "1" * 10 + "d"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no span of time"):
        parse_span(text)


@pytest.mark.parametrize("text", ["", "2024", "2024-13-01T00:00:00Z", "2024-01-01 00:00:00Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        moment(text)


def test_the_start_of_the_epoch_is_day_zero() -> None:
    assert day_number(1970, 1, 1) == 0 == int(datetime(1970, 1, 1, tzinfo=UTC).timestamp())
