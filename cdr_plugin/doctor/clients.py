"""A client as it sees itself: enrolled, in contact, its queue moving, its versions arriving."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cdr_plugin.client.states import VersionState
from cdr_plugin.errors import FormatError, NotEnrolledError
from cdr_plugin.model.times import parse_time

from .finding import Finding, broken, note, warning

if TYPE_CHECKING:
    from cdr_plugin.client.tier import ClientTier

STUCK_S = 7 * 86400
"""A version that has not arrived for so long needs somebody to look."""
SILENT_S = 14 * 86400
_SETTLED = (VersionState.COMMITTED, VersionState.INCOMPLETE, VersionState.REJECTED)


def client(tier: ClientTier, now_s: float | None = None) -> Iterator[Finding]:
    """The client's own state; NotEnrolledError when there is none."""
    now_s = time.time() if now_s is None else now_s
    try:
        group = tier.enrolled_group
    except NotEnrolledError:
        step = f"'cdr ticket' on the tier above prints a ticket; then 'cdr enroll TICKET -T {tier.name}'"
        yield broken(tier.name, "enrolment", "no ticket was adopted", step)
        return
    receipt = tier.state.get("receipt_time")
    if receipt is None:
        yield _never_answered(tier, group)
    elif now_s - float(receipt) > SILENT_S:
        cause = f"the last receipt came {_days(now_s - float(receipt))} ago"
        yield warning(tier.name, "contact", cause, "look whether the tiers above run: 'cdr doctor' there")
    yield from _versions(tier, now_s)


def _never_answered(tier: ClientTier, group: str) -> Finding:
    if tier.state.newest_version() is None:
        return note(tier.name, "enrolment", f"group {group}; nothing was sent yet", "'cdr backup', then 'cdr send'")
    cause = f"group {group}; no receipt has come yet, so that nothing is known to have arrived"
    step = "'cdr send' here, 'cdr receive' above and again 'cdr send' here; 'cdr clients' above shows who is known"
    return warning(tier.name, "enrolment", cause, step)


def _versions(tier: ClientTier, now_s: float) -> Iterator[Finding]:
    newest = tier.state.newest_version()
    if newest is None:
        return
    settled = ",".join(f"'{state}'" for state in _SETTLED)
    open_ones = tier.state.versions(f"WHERE state NOT IN ({settled}) ORDER BY number")
    old = [row for row in open_ones if now_s - _seconds(row.time, now_s) > STUCK_S]
    if old:
        first = old[0]
        age = _days(now_s - _seconds(first.time, now_s))
        reason = f": {first.reason}" if first.reason else ""
        segments, size = tier.state.queue()
        cause = f"{first.state} for {age}{reason}; {segments} segments, {size} bytes wait to be sent"
        yield warning(tier.name, f"version {first.number}", cause, _next_step(tier, bool(segments)))
    if newest.state in (VersionState.INCOMPLETE, VersionState.REJECTED):
        cause = f"{newest.state}: {newest.reason or 'for a reason that the tier above did not say'}"
        step = f"'cdr backup --force -T {tier.name}' makes another"
        yield warning(tier.name, f"version {newest.number}", cause, step)
    elif now_s - _seconds(newest.time, now_s) > SILENT_S:
        cause = f"the newest is {_days(now_s - _seconds(newest.time, now_s))} old"
        yield warning(tier.name, "versions", cause, "'cdr backup' makes one; 'cdr run' or cron should")
    if _seconds(newest.time, now_s) - now_s > 300:
        yield warning(tier.name, "clock", "it is behind the time of the newest version", "set it, and let NTP keep it")


def _next_step(tier: ClientTier, waits: bool) -> str:
    if waits:
        return f"'cdr status -T {tier.name}' says what the queue waits for; 'cdr send --now' overrides it"
    return "all was sent: run 'cdr doctor' on the tiers above"


def _seconds(moment: str, otherwise: float) -> float:
    try:
        return float(parse_time(moment)[0])
    except FormatError:
        return otherwise


def _days(seconds: float) -> str:
    return f"{seconds / 86400:.0f} days"
