"""CDR's own rule: a client's newest version stays, since the next one is built on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.retention.calendars import moment
from cdr_plugin.retention.policy import Kept, Outcome
from cdr_plugin.top.version_tags import VersionTag

NEWEST = "newest version of a client"


def newest_of_clients(versions: Iterable[StoredVersion]) -> set[str]:
    """IDs of the snapshots of each client's highest number; ``versions`` are all of a repository."""
    newest: dict[bytes, int] = {}
    found: list[tuple[VersionTag, str]] = []
    for version in versions:
        for tag in _version_tags(version):
            found.append((tag, version.id))
            newest[tag.client] = max(tag.number, newest.get(tag.client, 0))
    return {id_ for tag, id_ in found if tag.number == newest[tag.client]}


def _version_tags(version: StoredVersion) -> Iterator[VersionTag]:
    return filter(None, map(VersionTag.parse, version.snapshot.tags))


def spare(outcome: Outcome, ids: set[str], why: str = NEWEST) -> Outcome:
    """The outcome with these versions kept, whatever the policy says of them."""
    keep = [Kept(v, (*reasons, why)) if v.id in ids else Kept(v, reasons) for v, reasons in outcome.keep]
    keep += [Kept(version, (why,)) for version in outcome.remove if version.id in ids]
    keep.sort(key=lambda kept: moment(kept.version.snapshot.time).instant, reverse=True)
    return Outcome(keep, [version for version in outcome.remove if version.id not in ids])
