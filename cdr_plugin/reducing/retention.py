"""How long a tier that reduces keeps what it has passed on.

Nothing goes before the tiers above have settled its version. Without any rule the newest version of each client
stays: what its next deltas build on. ``for`` keeps committed versions that long, ``max_size`` removes the oldest, the
newest of a client last, until the rest fits.

What came of a version that never became whole here, because it was settled above first or its client put another in
its place, goes when no version of the client waits and nothing has come behind the last of them.
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
from cdr_plugin.identity.register import Client, SenderKind
from cdr_plugin.model.times import parse_time
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.pins import renew_pin
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.state import VersionState
from cdr_plugin.top.version_tags import VersionTag

_LATEST_PRUNE_S = 86400
"""Pruning takes the repository for itself: once a day, unless the size demands it."""
_PART = 4
"""Of the versions that may go, a fourth goes at once when the size demands it: how much each frees is not known."""
_PRUNED = "retained_pruned"
_TO_PRUNE = "retained_to_prune"
"""Something was forgotten or abandoned since."""


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
        _abandon(tier, repository, reporter)
        kept = _kept(tier, repository)
        gone = [one for one in kept if one.is_settled and not one.is_newest and _is_over(tier, one, now_s)]
        if gone:
            tier.state.put({_TO_PRUNE: "1"})
            repository.care().forget([one.version.id for one in gone])
            reporter.note(f"{tier.name}: {len(gone)} retained versions have been kept long enough")
        last_s = float(tier.state.get(_PRUNED) or b"0")
        if tier.state.get(_TO_PRUNE) and not last_s <= now_s < last_s + _LATEST_PRUNE_S:
            _prune(tier, repository, now_s)
        if tier.retain_bytes is not None:
            forgotten = {one.version.id for one in gone}
            rest = [one for one in kept if one.is_settled and one.version.id not in forgotten]
            _shrink(tier, repository, rest, tier.retain_bytes, now_s, reporter)


# --- versions that never became whole ---


def _abandon(tier: ReducingTier, repository: Repository, reporter: Reporter) -> None:
    """Pins go first: a crash behind them leaves blobs that the next pass pins again."""
    clients = tier.register.clients(tier.group)
    at_rest = {client.fingerprint for client in clients if _is_at_rest(tier, client)}
    found = [c for c in clients if c.fingerprint in at_rest and tier.state.client(c.fingerprint).has_unreached()]
    if found:
        tier.state.put({_TO_PRUNE: "1"})
        with repository.writing() as repo:
            snapshots = Snapshots(repo)
            for client in found:
                renew_pin(repo, snapshots, client.fingerprint, [])
        for client in found:
            tier.state.client(client.fingerprint).abandon()
    busy = {client.via or client.fingerprint for client in clients if client.fingerprint not in at_rest}
    senders = {client.fingerprint for client in clients if not client.via}
    trees = sum(tier.state.client(sender).abandon_trees() for sender in senders - busy)
    if found or trees:
        reporter.note(
            f"{tier.name}: what came of versions that were never whole here need not be kept any more: "
            f"{trees} trees, and the data of {len(found)} clients"
        )


def _is_at_rest(tier: ReducingTier, client: Client) -> bool:
    """Is there no version of the client, here or on its way, for which something might be kept?"""
    rows = tier.state.client(client.fingerprint)
    if client.kind is SenderKind.CLIENT:
        tier.settle_above(client, rows)
        rows.checkpoint()
        return not rows.is_arriving and all(row.state is not VersionState.PENDING for row in rows.versions())
    return True  # a tier has no versions of its own


# --- versions ---


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
    tier.state.put({_PRUNED: str(int(now_s)), _TO_PRUNE: ""})


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
