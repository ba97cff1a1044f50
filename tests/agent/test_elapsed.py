"""How long ago something was is known whatever the clocks do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.agent.elapsed import Clock, Moment

seconds = st.floats(0, 1e9)


def test_a_machine_that_slept_is_believed_what_its_wall_clock_says() -> None:
    moment = Moment(1000.0, seen_steady_s=5.0)
    assert moment.ago_s(Clock(9000.0, 6.0)) == 8000.0


def test_a_wall_clock_that_went_back_does_not_stop_the_time() -> None:
    moment = Moment(1e9, seen_steady_s=5.0)
    assert moment.ago_s(Clock(1e3, 105.0)) == 100.0


def test_a_steady_clock_that_begins_anew_takes_nothing_back() -> None:
    moment = Moment(1e9, proven_s=50.0)
    assert moment.ago_s(Clock(0.0, 7.0)) == 50.0
    assert moment.ago_s(Clock(0.0, 9.0)) == 52.0


@given(st.lists(st.tuples(st.floats(-1e10, 1e10), seconds), min_size=2))
def test_it_is_never_negative_and_never_less_than_the_steady_clock_has_seen(looks: list[tuple[float, float]]) -> None:
    moment = Moment(0.0)
    steady_s = 0.0
    for wall_s, passed_s in looks:
        steady_s += passed_s
        ago_s = moment.ago_s(Clock(wall_s, steady_s))
        assert ago_s >= 0
        assert ago_s >= (steady_s - looks[0][1]) * (1 - 1e-9) - 1e-6
