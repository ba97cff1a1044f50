"""Windows by the clock on the wall, on ordinary days and on those on which it is changed."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_conditions.week import parse_hours
from cdr_conditions.window import Window
from cdr_plugin.contracts import Occasion, Verdict
from cdr_plugin.errors import ConfigError

BERLIN = ZoneInfo("Europe/Berlin")  # clocks go forward on 2026-03-29 02:00, back on 2026-10-25 03:00


def at(text: str, zone: ZoneInfo = BERLIN, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def ask(value: object, moment: str | float, zone: ZoneInfo = BERLIN) -> Verdict:
    now_s = at(moment, zone) if isinstance(moment, str) else moment
    condition = Window(zone)
    condition.check(value)
    return condition.ask(value, Occasion(now_s))


@pytest.mark.parametrize(
    ("window", "moment", "hours", "opens"),
    [
        # 2026-01-05 is a Monday; hours until it closes (no name) or opens
        ("Mon-Fri 08:00-18:00", "2026-01-05 12:00", 6, ""),
        ("Mon-Fri 08:00-18:00", "2026-01-05 08:00", 10, ""),
        ("Mon-Fri 08:00-18:00", "2026-01-05 18:00", 14, "Tue 08:00"),
        ("Mon-Fri 08:00-18:00", "2026-01-09 19:00", 61, "Mon 08:00"),
        ("20:00-06:00", "2026-01-05 23:00", 7, ""),
        ("20:00-06:00", "2026-01-06 05:00", 1, ""),
        ("20:00-06:00", "2026-01-06 06:00", 14, "Tue 20:00"),
        ("Sat,Sun", "2026-01-10 00:00", 48, ""),
        ("Sat,Sun", "2026-01-05 00:00", 120, "Sat 00:00"),
        ("Fri-Mon", "2026-01-05 12:00", 12, ""),
        ("Fri-Mon", "2026-01-06 12:00", 60, "Fri 00:00"),
        ("Sun 22:00-04:00", "2026-01-05 03:00", 1, ""),  # belongs to the Sunday
        ("Mon 22:00-04:00", "2026-01-05 03:00", 19, "Mon 22:00"),
        (["Mon 20:00-24:00", "Tue 00:00-02:00"], "2026-01-05 21:00", 5, ""),  # without a gap
        (["Mon 08:00-09:00", "Wed 08:00-09:00"], "2026-01-05 10:00", 46, "Wed 08:00"),
        (["Mon 08:00-12:00", "Mon 10:00-11:00"], "2026-01-05 10:30", 1.5, ""),
        ("Mon 08:00-09:00", "2026-01-05 09:30", 166.5, "Mon 08:00"),
    ],
)
def test_the_next_opening_or_closing_is_when_to_ask_again(
    window: object, moment: str, hours: float, opens: str
) -> None:
    shown = " or ".join(window) if isinstance(window, list) else window
    reason = f"waiting for the window {shown} (opens {opens})" if opens else ""
    assert ask(window, moment) == Verdict(not opens, reason, hours * 3600)


def test_a_window_that_never_closes_is_asked_again_in_a_week() -> None:
    verdict = ask("00:00-24:00", "2026-01-05 12:00")
    assert verdict.convenient
    assert verdict.ask_again_s >= 7 * 86400


@pytest.mark.parametrize(
    ("window", "moment", "hours", "convenient"),
    [
        ("20:00-06:00", "2026-03-28 20:00", 9, True),  # the night is short
        ("20:00-06:00", "2026-10-24 20:00", 11, True),  # and long
        ("08:00-18:00", "2026-03-28 18:00", 13, False),
        ("08:00-18:00", "2026-10-24 18:00", 15, False),
        ("02:00-04:00", "2026-10-25 00:00", 2, False),
        ("Sun 01:30-02:30", "2026-03-29 01:30", 1, True),  # 02:30 is 03:30
    ],
)
def test_clocks_that_are_changed_move_the_window_with_them(
    window: str, moment: str, hours: float, convenient: bool
) -> None:
    verdict = ask(window, moment)
    assert (verdict.convenient, verdict.ask_again_s) == (convenient, hours * 3600)


def test_an_hour_that_comes_twice_is_in_the_window_twice() -> None:
    for fold in (0, 1):
        assert ask("02:00-03:00", at("2026-10-25 02:30", fold=fold)).convenient
    assert not ask("02:00-03:00", at("2026-10-25 03:00")).convenient


def test_an_hour_that_is_left_out_does_not_confuse_the_rest() -> None:
    verdict = ask(["Sun 02:30-03:10", "Sun 12:00-13:00"], "2026-03-29 01:00")
    assert verdict.reason.endswith("(opens Sun 12:00)")


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)),
    st.lists(
        st.tuples(st.integers(0, 6), st.integers(0, 1439), st.integers(1, 1440)).map(
            lambda row: (row[0], row[1], (row[1] + row[2]) % 1440)
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_what_is_said_of_a_moment_holds_until_when_to_ask_again(
    moment: datetime, rows: list[tuple[int, int, int]]
) -> None:
    names = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
    windows = [
        f"{names[day]} {start // 60:02}:{start % 60:02}-{end // 60:02}:{end % 60:02}"
        for day, start, end in rows
        if start != end
    ] or ["Mon"]
    utc = ZoneInfo("UTC")
    now_s = moment.replace(tzinfo=utc).timestamp()
    verdict = ask(windows, now_s, utc)
    assert verdict.convenient == _is_in(windows, moment)
    assert 0 < verdict.ask_again_s <= 9 * 86400
    for share in (0.3, 0.999):
        assert ask(windows, now_s + verdict.ask_again_s * share, utc).convenient == verdict.convenient
    if verdict.ask_again_s < 7 * 86400:
        assert ask(windows, round(now_s + verdict.ask_again_s), utc).convenient != verdict.convenient


def _is_in(windows: list[str], moment: datetime) -> bool:
    """The oracle: minute of the week against minute of the week."""
    for hours in map(parse_hours, windows):
        for step in (0, 1):
            day = moment - timedelta(days=step)
            minute = moment.hour * 60 + moment.minute + step * 1440
            if day.weekday() in hours.days and hours.opens <= minute < hours.closes:
                return True
    return False


def test_the_zone_is_where_the_machine_is_now(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = Occasion(at("2026-01-05 12:00", ZoneInfo("UTC")))
    for zone, convenient in (("UTC", True), ("Asia/Tokyo", False), ("UTC", True)):
        monkeypatch.setenv("TZ", zone)
        assert Window().ask("11:00-13:00", moment).convenient is convenient


@pytest.mark.parametrize(
    "value",
    ["", " 08:00-18:00", "Mon ", "Mon 8-18", "mon", "Mon-", "24:00-02:00", "08:00-25:00", "Mon08:00-09:00", 7, True],
)
def test_what_is_no_window_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match='expected a window such as "Mon-Fri 08:00-18:00", not '):
        Window().check(value)


def test_windows_that_would_never_open_are_refused() -> None:
    with pytest.raises(ConfigError, match="an empty list of windows would never be convenient"):
        Window().check([])
    with pytest.raises(ConfigError, match='closes as it opens; write "00:00-24:00" for the whole day'):
        Window().check("08:00-08:00")


CLOCKS = st.integers(0, 24 * 60 - 1).map(lambda minutes: f"{minutes // 60:02d}:{minutes % 60:02d}")
DAYS = st.sampled_from(["", "Mon-Fri ", "Sat,Sun ", "Fri-Mon ", "Wed "])
WINDOWS = st.tuples(DAYS, CLOCKS, CLOCKS).filter(lambda w: w[1] != w[2]).map(lambda w: f"{w[0]}{w[1]}-{w[2]}")


@given(st.lists(WINDOWS, min_size=1, max_size=3), WINDOWS, st.integers(0, 7 * 24 * 60 - 1))
def test_both_is_open_just_when_each_is(one: list[str], other: str, minute: int) -> None:
    utc = ZoneInfo("UTC")
    moment = at("2026-01-05 00:00", utc) + 60 * minute
    each = [ask(value, moment, utc).convenient for value in (one, other)]
    try:
        both = Window().both(one, other)
    except ValueError:
        assert not all(each)
    else:
        assert ask(both, moment, utc).convenient == all(each)
        assert Window().both(one, both) == both


def test_windows_with_no_time_in_common_are_refused() -> None:
    with pytest.raises(ValueError, match="have no time in common"):
        Window().both("08:00-18:00", ["20:00-06:00", "19:00-19:30"])
