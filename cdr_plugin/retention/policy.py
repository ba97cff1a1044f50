"""What a policy keeps of a group of versions: restic's rules.

In a group, newest first, a version is kept if any rule says so; every rule is asked about every
version, also when another one keeps it already:

- *tags*: it has all tags of one of the lists.
- *within a span*: it is younger than that, counted back from the newest version that is not in the future.
- *last, hourly, ... yearly n*: it is the newest of its hour, ... year, on the clock of its own offset,
  as long as fewer than n are kept so; -1 is no limit.
- *hourly, ... yearly within a span*: both.
- the oldest version of the group also counts for every bucket that still has room, so that the history
  kept is as long as it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.retention.calendars import Instant, Moment, moment
from cdr_plugin.retention.spans import NO_SPAN, Span
from cdr_plugin.retention.tags import has_tags

UNLIMITED = -1


_Key = Callable[[Moment], Hashable]

BUCKETS: dict[str, _Key] = {
    "hourly": lambda at: (at.year, at.month, at.day, at.hour),
    "daily": lambda at: (at.year, at.month, at.day),
    "weekly": lambda at: at.week,
    "monthly": lambda at: (at.year, at.month),
    "yearly": lambda at: at.year,
}
"""Names and keys, in the order of restic's rules."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Counts of versions (``UNLIMITED``: all), spans, and lists of tags; all empty keeps nothing."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Span = NO_SPAN
    within_hourly: Span = NO_SPAN
    within_daily: Span = NO_SPAN
    within_weekly: Span = NO_SPAN
    within_monthly: Span = NO_SPAN
    within_yearly: Span = NO_SPAN
    tags: tuple[tuple[str, ...], ...] = ()

    def __bool__(self) -> bool:
        return self != Policy()


class Kept(NamedTuple):
    """A version that stays, and the rules that keep it, as restic words them."""

    version: StoredVersion
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Outcome:
    """What a policy says of one group; both newest first."""

    keep: list[Kept] = field(default_factory=list)
    remove: list[StoredVersion] = field(default_factory=list)


def apply_policy(
    versions: Iterable[StoredVersion], policy: Policy, now: Instant, *, keep_oldest: bool = True
) -> Outcome:
    """What ``policy`` says of the versions of one group. Those of the same instant stay in the order in
    which they came.

    Without ``keep_oldest`` as restic before 0.16, which has no rule for the oldest version. An outcome
    that keeps nothing is for the caller to refuse; restic does since 0.17.
    """
    dated = [(moment(version.snapshot.time), version) for version in versions]
    dated.sort(key=lambda pair: pair[0].instant, reverse=True)
    reference = max((at for at, _ in dated if at.instant < now), default=None)
    rules = _rules(policy, reference)
    outcome = Outcome()
    for number, (at, version) in enumerate(dated):
        is_last = keep_oldest and number == len(dated) - 1
        reasons = tuple(reason for rule in rules for reason in rule(at, version, is_last))
        if reasons:
            outcome.keep.append(Kept(version, reasons))
        else:
            outcome.remove.append(version)
    return outcome


_Rule = Callable[[Moment, StoredVersion, bool], Iterator[str]]
"""Reasons to keep a version; told whether it is the oldest of its group, if that counts."""


def _rules(policy: Policy, reference: Moment | None) -> Sequence[_Rule]:
    """In the order of restic's reasons."""
    rules: list[_Rule] = [_tag_rule(wanted) for wanted in policy.tags]
    if policy.within:
        rules.append(_within_rule(policy.within, reference))
    if policy.last:
        rules.append(_Bucket("last snapshot", None, policy.last))
    for name, key in BUCKETS.items():
        if count := getattr(policy, name):
            rules.append(_Bucket(f"{name} snapshot", key, count))
    for name, key in BUCKETS.items():
        if span := getattr(policy, f"within_{name}"):
            rules.append(_Bucket(f"{name} within {span}", key, UNLIMITED, _cutoff(span, reference)))
    return rules


def _cutoff(span: Span, reference: Moment | None) -> Instant | None:
    """Younger than this is within the span; None where everything lies in the future: all is."""
    return None if reference is None else span.before(reference)


def _tag_rule(wanted: tuple[str, ...]) -> _Rule:
    def rule(at: Moment, version: StoredVersion, is_oldest: bool) -> Iterator[str]:
        if has_tags(version.snapshot, wanted):
            yield f"has tags [{', '.join(wanted)}]"

    return rule


def _within_rule(span: Span, reference: Moment | None) -> _Rule:
    cutoff = _cutoff(span, reference)

    def rule(at: Moment, version: StoredVersion, is_oldest: bool) -> Iterator[str]:
        if cutoff is None or at.instant > cutoff:
            yield f"within {span}"

    return rule


class _Bucket:
    """Keeps the first version of each bucket that it sees, as long as it has room."""

    def __init__(self, reason: str, key: _Key | None, room: int, cutoff: Instant | None = None) -> None:
        self._reason = reason
        self._key = key
        self._room = room
        self._cutoff = cutoff
        self._last: Hashable = None

    def __call__(self, at: Moment, version: StoredVersion, is_oldest: bool) -> Iterator[str]:
        if not self._room or (self._cutoff is not None and at.instant <= self._cutoff):
            return
        key = version.id if self._key is None else self._key(at)
        is_first = key != self._last
        if is_first or is_oldest:
            self._last = key
            self._room -= self._room > 0
            yield self._reason if is_first else f"oldest {self._reason}"
