"""When the top tier received a version, as its snapshot says: a tag, so the time survives the loss of the tier's
state, and tree IDs stay restic's.

``cdr-received:2026-11-29T18:00:06Z``. Clients cannot give such a tag; their clocks are not trusted, this one is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC

import msgspec

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import FormatError
from cdr_plugin.model.times import parse_time, time_formatter
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.retention.calendars import Instant, moment
from cdr_plugin.retention.policy import Kept, Outcome, Policy, apply_policy

_PREFIX = "cdr-received:"
_BY_RECEIPT = "{} (by the time of receipt)"


def received_tag(now_s: float) -> str:
    """The tag of a snapshot that is written now."""
    return _PREFIX + time_formatter(UTC)(int(now_s), 0)


def received_time(snapshot: Snapshot) -> str:
    """RFC 3339; the version's own time where no tag says it: other programs wrote it, or an older cdr."""
    for tag in snapshot.tags:
        if tag.startswith(_PREFIX):
            text = tag.removeprefix(_PREFIX)
            try:
                parse_time(text)
            except FormatError:
                continue
            return text
    return snapshot.time


def apply_to_both_times(versions: Sequence[StoredVersion], policy: Policy, now: Instant) -> Outcome:
    """What ``policy`` keeps by the times of the versions *or* by the times of their receipt: a flood of backdated
    versions pushes no real one out, and one that was sent late still stands for its own day."""
    own = apply_policy(versions, policy, now)
    by_id = {version.id: version for version in versions}
    # Of versions that were received in one second the newest by its own time comes first. The oldest is kept by its
    # own time, if at all: many may have been received at once.
    newest_first = sorted(versions, key=lambda version: moment(version.snapshot.time).instant, reverse=True)
    received = apply_policy(map(_received, newest_first), policy, now, keep_oldest=False)
    reasons = {version.id: why for version, why in own.keep}
    for version, why in received.keep:
        if version.id not in reasons:
            reasons[version.id] = tuple(map(_BY_RECEIPT.format, why))
    keep = [Kept(by_id[id_], why) for id_, why in reasons.items()]
    keep.sort(key=lambda kept: moment(kept.version.snapshot.time).instant, reverse=True)
    return Outcome(keep, [version for version in own.remove if version.id not in reasons])


def _received(version: StoredVersion) -> StoredVersion:
    """The version as if it had been made when it was received."""
    snapshot = msgspec.structs.replace(version.snapshot, time=received_time(version.snapshot))
    return replace(version, snapshot=snapshot)
