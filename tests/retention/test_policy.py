"""The laws of a policy, whatever the history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.config.schema import ForgetConfig
from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.retention.calendars import Instant, moment
from cdr_plugin.retention.from_options import policy_from
from cdr_plugin.retention.policy import BUCKETS, UNLIMITED, Policy, apply_policy
from cdr_plugin.retention.spans import Span
from tests.retention.versions import START_S, histories, numbered, snapshot
from tests.support.patience import PATIENT

AFTER: Instant = (1 << 40, 0)
"""Later than everything."""

_counted = st.sampled_from(("last", *BUCKETS))
_spans = st.builds(Span, st.integers(0, 2), st.integers(0, 3), st.integers(0, 40), st.integers(0, 50))
_counts = st.integers(-1, 5)
policies = st.builds(
    Policy,
    **dict.fromkeys(("last", *BUCKETS), _counts),
    **dict.fromkeys(("within", *(f"within_{bucket}" for bucket in BUCKETS)), st.one_of(st.just(Span()), _spans)),
    tags=st.lists(st.sampled_from((("x",), ("x", "y"), ("",), ("q",))), max_size=2).map(tuple),
)


def kept(versions: Sequence[StoredVersion], policy: Policy, **options: bool) -> list[StoredVersion]:
    return [version for version, _ in apply_policy(versions, policy, AFTER, **options).keep]


def instant(version: StoredVersion) -> Instant:
    return moment(version.snapshot.time).instant


@given(histories(), policies, st.booleans())
@PATIENT
def test_each_version_is_kept_or_removed_newest_first(
    versions: list[StoredVersion], policy: Policy, keep_oldest: bool
) -> None:
    outcome = apply_policy(versions, policy, AFTER, keep_oldest=keep_oldest)
    keep = [version for version, _ in outcome.keep]
    assert sorted(v.id for v in keep + outcome.remove) == sorted(v.id for v in versions)
    assert all(reasons for _, reasons in outcome.keep)
    for part in (keep, outcome.remove):
        assert all(instant(newer) > instant(older) for newer, older in pairwise(part))


@given(histories(), policies, st.randoms())
@PATIENT
def test_the_order_of_listing_does_not_matter(versions: list[StoredVersion], policy: Policy, source: object) -> None:
    mixed = sorted(versions, key=lambda v: v.id)
    assert apply_policy(versions, policy, AFTER) == apply_policy(mixed, policy, AFTER)


@given(histories(), policies)
@PATIENT
def test_rules_only_add_to_each_other(versions: list[StoredVersion], policy: Policy) -> None:
    parts = [
        Policy(**{name: getattr(policy, name)})
        for name in Policy.__dataclass_fields__
        if getattr(policy, name) != getattr(Policy(), name)
    ]
    union = {version.id for part in parts for version in kept(versions, part)}
    assert {version.id for version in kept(versions, policy)} == union


@given(histories(), _counted, st.integers(0, 6))
@PATIENT
def test_a_count_keeps_as_many_and_the_newest_of_each(versions: list[StoredVersion], rule: str, count: int) -> None:
    found = kept(versions, Policy(**{rule: count}), keep_oldest=False)
    assert len(found) <= count
    if versions and count:
        assert found[0] == max(versions, key=instant)
    if rule == "last":
        assert len(found) == min(count, len(versions))


@given(histories(), _counted, st.integers(0, 6))
@PATIENT
def test_a_higher_count_keeps_more_and_unlimited_keeps_most(
    versions: list[StoredVersion], rule: str, count: int
) -> None:
    by_count = [{v.id for v in kept(versions, Policy(**{rule: n}))} for n in (count, count + 1, 1000, UNLIMITED)]
    assert by_count[0] <= by_count[1] <= by_count[2] == by_count[3]


@given(histories(), _counted, st.integers(1, 6))
@PATIENT
def test_what_was_kept_is_kept_again(versions: list[StoredVersion], rule: str, count: int) -> None:
    once = kept(versions, Policy(**{rule: count}))
    assert kept(once, Policy(**{rule: count})) == once


@given(histories(), _counted, st.integers(-1, 6))
@PATIENT
def test_the_oldest_stays_while_there_is_room(versions: list[StoredVersion], rule: str, count: int) -> None:
    without = kept(versions, Policy(**{rule: count}), keep_oldest=False)
    outcome = apply_policy(versions, Policy(**{rule: count}), AFTER)
    oldest = min(versions, key=instant, default=None)
    has_room = count == UNLIMITED or len(without) < count
    expected = [*without, oldest] if has_room and oldest and oldest not in without else without
    assert [version for version, _ in outcome.keep] == expected
    assert all(len(reasons) == 1 for _, reasons in outcome.keep)
    if expected != without:
        assert outcome.keep[-1].reasons[0].startswith("oldest ")


@given(histories(), _spans)
@PATIENT
def test_within_counts_back_from_the_newest_that_is_not_in_the_future(
    versions: list[StoredVersion], span: Span
) -> None:
    ordered = sorted(versions, key=instant)
    now = instant(ordered[len(ordered) // 2]) if ordered else AFTER
    past = [version for version in ordered if instant(version) < now]
    outcome = apply_policy(versions, Policy(within=span), now)
    if not span:
        assert not outcome.keep
    elif past:
        cutoff = span.before(moment(past[-1].snapshot.time))
        assert {v.id for v, _ in outcome.keep} == {v.id for v in versions if instant(v) > cutoff}
    else:
        assert not outcome.remove


@given(histories(), _spans, st.sampled_from(tuple(BUCKETS)))
@PATIENT
def test_a_bucket_within_a_span_is_the_bucket_of_what_lies_within(
    versions: list[StoredVersion], span: Span, bucket: str
) -> None:
    within = kept(versions, Policy(within=span))
    expected = kept(within, Policy(**{bucket: UNLIMITED}), keep_oldest=False)
    assert kept(versions, Policy(**{f"within_{bucket}": span}), keep_oldest=False) == expected


def test_days_are_those_of_the_clock_that_wrote_the_time() -> None:
    day = START_S - START_S % 86400
    berlin = numbered([snapshot(day - 1800, 60), snapshot(day + 1800, 60)])
    assert len(kept(berlin, Policy(daily=9), keep_oldest=False)) == 1
    utc = numbered([snapshot(day - 1800), snapshot(day + 1800)])
    assert len(kept(utc, Policy(daily=9), keep_oldest=False)) == 2


def test_reasons_are_those_of_restic() -> None:
    versions = numbered([snapshot(START_S), snapshot(START_S + 60, tags=["a", "b"])])
    policy = Policy(
        last=1, yearly=2, within=Span(years=1, hours=2), within_daily=Span(days=7), tags=(("a", "b"), ("c",))
    )
    newest, oldest = apply_policy(versions, policy, AFTER).keep
    assert newest.reasons == (
        "has tags [a, b]", "within 1y2h", "last snapshot", "yearly snapshot", "daily within 7d"
    )  # fmt: skip
    assert oldest.reasons == ("within 1y2h", "oldest yearly snapshot", "oldest daily within 7d")


def test_options_and_configuration_state_a_policy_alike() -> None:
    config = ForgetConfig(keep_last=3, keep_yearly=-1, keep_within="1y6m", keep_tag=("a, b", "c"))
    expected = Policy(last=3, yearly=UNLIMITED, within=Span(1, 6), tags=(("a", "b"), ("c",)))
    assert policy_from(config) == expected
    more = SimpleNamespace(keep_within_weekly="5d", keep_last=None, keep_tag=[])
    assert policy_from(more) == Policy(within_weekly=Span(days=5))
    assert not policy_from(ForgetConfig())
    assert replace(expected, last=0)


@pytest.mark.parametrize("options", [{"keep_last": -2}, {"keep_within_daily": "1x"}])
def test_a_policy_that_cannot_be_is_refused_by_name(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(options)).replace("_", "-")):
        policy_from(SimpleNamespace(**options))
