"""How long a tier that reduces keeps what it has passed on.

Nothing goes before the tiers above have settled its version. Without any rule the newest version of each client
stays: what its next deltas build on. ``for`` keeps committed versions that long, ``max_size`` removes the oldest, the
newest of a client last, until the rest fits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.care import PruneOptions
from cdr_plugin.contracts import Repository, StoredVersion
from cdr_plugin.files import folder_bytes
from cdr_plugin.identity.register import SenderKind
from cdr_plugin.model.times import parse_time
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.state import VersionState
from cdr_plugin.top.version_tags import VersionTag

_LATEST_PRUNE_S = 86400
"""Pruning takes the repository for itself: once a day, unless the size demands it."""
_PART = 4
"""Of the versions that may go, a fourth goes at once when the size demands it: how much each frees is not known."""
_PRUNED = "retained_pruned"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A version that is kept. ``is_newest``: of its client."""

    version: StoredVersion
    time_s: int
    is_settled: bool
    is_newest: bool


def retain(tier: ReducingTier, now_s: float, reporter: Reporter) -> None:
    """Forget and prune what need not be kept; under ``receive.lock``."""
    with closing(tier.open_repository()) as repository:
        kept = _kept(tier, repository)
        gone = [one for one in kept if one.is_settled and not one.is_newest and _is_over(tier, one, now_s)]
        if gone:
            repository.care().forget([one.version.id for one in gone])
            reporter.note(f"{tier.name}: {len(gone)} retained versions have been kept long enough")
        last_s = float(tier.state.get(_PRUNED) or b"0")
        if gone and not last_s <= now_s < last_s + _LATEST_PRUNE_S:
            _prune(tier, repository, now_s)
        if tier.retain_bytes is not None:
            forgotten = {one.version.id for one in gone}
            rest = [one for one in kept if one.is_settled and one.version.id not in forgotten]
            _shrink(tier, repository, rest, tier.retain_bytes, now_s, reporter)


def _kept(tier: ReducingTier, repository: Repository) -> list[_Kept]:
    """The retained versions of all clients, oldest first."""
    found = []
    versions: defaultdict[bytes, list[tuple[StoredVersion, VersionTag]]] = defaultdict(list)
    for version in repository.versions():
        for tag in filter(None, map(VersionTag.parse, version.snapshot.tags)):
            versions[tag.client].append((version, tag))
    for client in tier.register.clients(tier.group):
        if client.kind is SenderKind.CLIENT:
            told = tier.versions_told(client, tier.state.client(client.fingerprint).versions())
            settled = {(row.number, row.hash) for row in told if row.state is not VersionState.PENDING}
            own = versions[client.fingerprint[:16]]
            newest = max((tag.number for _, tag in own), default=0)
            found += [_one(version, tag, settled, newest) for version, tag in own]
    return sorted(found, key=lambda one: one.time_s)


def _one(version: StoredVersion, tag: VersionTag, settled: set[tuple[int, bytes]], newest: int) -> _Kept:
    is_settled = (tag.number, tag.record_hash) in settled
    return _Kept(version, parse_time(version.snapshot.time)[0], is_settled, tag.number == newest)


def _is_over(tier: ReducingTier, one: _Kept, now_s: float) -> bool:
    if tier.retain_s is None:
        return tier.retain_bytes is None
    return one.time_s + tier.retain_s < now_s


def _prune(tier: ReducingTier, repository: Repository, now_s: float) -> None:
    repository.care().prune(PruneOptions())
    tier.state.put({_PRUNED: str(int(now_s))})


def _shrink(
    tier: ReducingTier, repository: Repository, rest: Sequence[_Kept], limit: int, now_s: float, reporter: Reporter
) -> None:
    """Remove the oldest until the rest fits, the newest of each client last."""
    rest = sorted(rest, key=lambda one: (one.is_newest, one.time_s))
    while rest and folder_bytes(Path(tier.repository)) > limit:
        count = -(-len(rest) // _PART)
        repository.care().forget([one.version.id for one in rest[:count]], PruneOptions(max_unused="0"))
        reporter.note(f"{tier.name}: {count} retained versions made room (retain.max_size is {limit})")
        rest = rest[count:]
