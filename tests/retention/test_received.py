"""Times of receipt, as tags: a client's clock decides alone about nothing."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.model.times import parse_time
from cdr_plugin.retention.policy import Policy, apply_policy
from cdr_plugin.retention.received import apply_to_both_times, received_tag, received_time
from cdr_plugin.retention.spans import Span
from cdr_plugin.retention.tags import user_tags
from tests.retention.versions import START_S, histories, numbered, snapshot

DAY_S = 86400
NOW = (START_S + 4000 * DAY_S, 0)
POLICIES = st.builds(
    Policy,
    last=st.integers(0, 4),
    hourly=st.integers(0, 4),
    daily=st.integers(0, 4),
    monthly=st.integers(0, 3),
    within=st.sampled_from((Span(), Span(days=3), Span(months=2))),
    tags=st.sampled_from(((), (("x",),))),
)


def received(version: StoredVersion, delay_s: int) -> StoredVersion:
    tag = received_tag(parse_time(version.snapshot.time)[0] + delay_s)
    return replace(version, snapshot=msgspec.structs.replace(version.snapshot, tags=[*version.snapshot.tags, tag]))


def as_received(version: StoredVersion) -> StoredVersion:
    time = received_time(version.snapshot)
    return replace(version, snapshot=msgspec.structs.replace(version.snapshot, time=time))


def ids(versions: list[StoredVersion]) -> set[str]:
    return {version.id for version in versions}


@given(st.integers(0, 4_000_000_000))
def test_a_tag_says_the_second_and_is_no_tag_of_users(seconds: int) -> None:
    one = snapshot(START_S, tags=["x", received_tag(seconds + 0.7)])
    assert parse_time(received_time(one)) == (seconds, 0)
    assert user_tags(one) == ["x"]


def test_without_a_tag_or_with_a_broken_one_the_versions_own_time_counts() -> None:
    for tags in ([], ["cdr-received:"], ["cdr-received:yesterday"], ["cdr-receivedx:2020-01-01T00:00:00Z"]):
        one = snapshot(START_S, tags=tags)
        assert received_time(one) == one.time


@given(histories(), st.lists(st.sampled_from((0, 5, 90_000, 40_000_000)), min_size=40, max_size=40), POLICIES)
def test_what_either_time_keeps_stays_and_nothing_else(
    versions: list[StoredVersion], delays_s: list[int], policy: Policy
) -> None:
    versions = [received(version, delay_s) for version, delay_s in zip(versions, delays_s, strict=False)]
    outcome = apply_to_both_times(versions, policy, NOW)
    by_own = {version.id for version, _ in apply_policy(versions, policy, NOW).keep}
    newest_first = sorted(versions, key=lambda version: parse_time(version.snapshot.time), reverse=True)
    received_first = apply_policy(map(as_received, newest_first), policy, NOW, keep_oldest=False)
    by_receipt = {version.id for version, _ in received_first.keep}
    assert {version.id for version, _ in outcome.keep} == by_own | by_receipt
    assert ids(outcome.remove) == ids(versions) - (by_own | by_receipt)
    assert all(version in versions for version, _ in outcome.keep)


@given(histories(), POLICIES)
def test_where_versions_arrive_at_once_it_is_the_policy_itself(versions: list[StoredVersion], policy: Policy) -> None:
    outcome, plain = apply_to_both_times(versions, policy, NOW), apply_policy(versions, policy, NOW)
    assert outcome.keep == plain.keep and outcome.remove == plain.remove


@given(histories(), POLICIES)
def test_removing_again_removes_nothing_more(versions: list[StoredVersion], policy: Policy) -> None:
    first = apply_to_both_times(versions, policy, NOW)
    for gone in (len(first.remove), len(first.remove) // 2):
        left = [version for version in versions if version.id not in ids(first.remove[:gone])]
        again = apply_to_both_times(left, policy, NOW)
        assert {v.id for v, _ in again.keep} == {v.id for v, _ in first.keep}


def test_a_backdated_flood_pushes_no_real_version_out() -> None:
    real = [snapshot(START_S + day * DAY_S, tags=[received_tag(START_S + day * DAY_S)]) for day in range(60)]
    today_s = START_S + 60 * DAY_S
    flood = [
        snapshot(START_S + day * DAY_S + 3600 * hour, tags=[received_tag(today_s + hour)])
        for day in range(60)
        for hour in range(1, 24)
    ]
    versions = numbered([*real, *flood])
    policy = Policy(daily=7, weekly=4, monthly=2)
    own = {version.id for version, _ in apply_policy(versions[:60], policy, NOW).keep}
    kept = {version.id for version, _ in apply_to_both_times(versions, policy, NOW).keep}
    # Today's bucket is the flood's: of the real ones only the oldest day and week give way for it.
    assert len(own - kept) <= 2
    assert len(own - {version.id for version, _ in apply_policy(versions, policy, NOW).keep}) > 5


def test_a_flood_dated_to_one_day_does_not_either() -> None:
    real = [snapshot(START_S + day * DAY_S, tags=[received_tag(START_S + day * DAY_S)]) for day in range(30)]
    flood = [snapshot(START_S + 29 * DAY_S + s, tags=[received_tag(START_S + 29 * DAY_S + s)]) for s in range(1, 500)]
    versions = numbered([*real, *flood])
    kept = {version.id for version, _ in apply_to_both_times(versions, Policy(daily=30), NOW).keep}
    assert {f"{number:064x}" for number in range(29)} <= kept
