"""The scheduled forget of one group's repository: retention by client, then prune if asked for.

Durable steps, each of which may be the last: that a prune is owed, the removal of snapshots (one by one, oldest
intention first), the prune's own steps (docs/design/prune.md), the note that all is done. Whatever was cut short
is done by the next run: what is left to remove is planned anew, and a prune that is owed is made up for.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from cdr_plugin.care import PruneOptions, PruneReport
from cdr_plugin.contracts import StoredVersion
from cdr_plugin.files import exclusive
from cdr_plugin.identity.register import Client
from cdr_plugin.model.times import parse_time
from cdr_plugin.reporter import Reporter
from cdr_plugin.retention.clients import newest_of_clients, spare
from cdr_plugin.retention.policy import Kept, Outcome, Policy
from cdr_plugin.retention.received import apply_to_both_times, received_time
from cdr_plugin.top.baselines import baselines
from cdr_plugin.top.care_state import CareState, ForgetNote, VersionKey
from cdr_plugin.top.checking import version_keys
from cdr_plugin.top.pins import adoption_pins
from cdr_plugin.top.publish import adopted_fact
from cdr_plugin.top.receive import call_for_a_pass
from cdr_plugin.top.tier import TopTier

BASELINE = "a client may build on it"


@dataclass(frozen=True, slots=True)
class ClientPlan:
    """What becomes of one client's versions. ``name`` is empty for one whom the register does not know."""

    name: str
    outcome: Outcome
    refused: str = ""
    """Why everything is kept, where the policy would keep nothing."""


@dataclass(slots=True)
class ForgetPlan:
    """``clients``: their versions; ``pins``: of what clients adopted and did not use in time."""

    clients: list[ClientPlan] = field(default_factory=list)
    pins: list[str] = field(default_factory=list)

    @property
    def remove(self) -> list[str]:
        """IDs, oldest of each client first."""
        return [version.id for one in self.clients for version in one.outcome.remove[::-1]] + self.pins

    @property
    def kept(self) -> int:
        return sum(len(one.outcome.keep) for one in self.clients)


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What a forget did. ``pruned`` is None where none was needed."""

    plan: ForgetPlan
    note: ForgetNote
    pruned: PruneReport | None = None


def forget_group(
    top: TopTier, policy: Policy, *, prune: bool, pin_for_s: float, reporter: Reporter, retry_lock_s: float = 0
) -> Forgotten:
    """Forget in the repository of ``top``'s group. LockedError while others work on it, NotConvenientError while
    other care of the group is under way; the next run does what is left then."""
    top.require_identity()
    with (
        exclusive(top.state_folder / "care.lock", f"care of {top.name}, group {top.group}"),
        CareState(top.state_folder) as care,
    ):
        began_s = time.time()
        options = replace(top.options, retry_lock_s=retry_lock_s)
        with closing(top.plugins.repository_format(top.format).open(top.repository, options)) as repository:
            plan = plan_forget(top, repository.versions(), policy, pin_for_s=pin_for_s, now_s=began_s)
            _say_refusals(plan, reporter)
            remove = plan.remove
            if remove:
                call_for_a_pass(top)  # clients learn from their standings what is gone, also when this is cut short
            if prune and remove:
                care.owe_prune()
            pruned = None
            if prune and care.owes_prune:
                pruned = repository.care().forget(remove, PruneOptions())
            elif remove:
                repository.care().forget(remove)
        freed = pruned.bytes_removed if pruned else 0
        note = ForgetNote(began_s, time.time(), len(remove), plan.kept, freed)
        if remove:
            call_for_a_pass(top)  # once more: another pass may have come before the removal
        care.note_forget(note)
    return Forgotten(plan, note, pruned)


def plan_forget(
    top: TopTier, versions: Sequence[StoredVersion], policy: Policy, *, pin_for_s: float, now_s: float
) -> ForgetPlan:
    """What is to go. Versions that no client of ours made are nobody's: they stay."""
    clients = {client.fingerprint[:16]: client for client in top.register.clients(top.group)}
    newest = newest_of_clients(versions)
    plan = ForgetPlan()
    for id_, own in sorted(_by_client(versions).items()):
        client = clients.get(id_)
        kept = _baselines_of(top, client, own, now_s - pin_for_s) if client else set()
        plan.clients.append(_plan_client(client.name if client else "", own, policy, newest, kept, now_s))
    plan.pins = [
        pin.id for client in clients.values() for pin in _old_pins(top, client, versions, now_s - pin_for_s)
    ]
    return plan


def _by_client(versions: Iterable[StoredVersion]) -> dict[bytes, list[StoredVersion]]:
    found: dict[bytes, list[StoredVersion]] = defaultdict(list)
    for version in versions:
        for client in {client for client, _, _ in version_keys(version)}:
            found[client].append(version)
    return found


def _plan_client(
    name: str, versions: Sequence[StoredVersion], policy: Policy, newest: set[str], kept: set[str], now_s: float
) -> ClientPlan:
    outcome = apply_to_both_times(versions, policy, (int(now_s), 0))
    if not outcome.keep:  # most likely not what was meant
        refused = f"the policy would keep none of its {len(versions)} versions; all are kept"
        return ClientPlan(name, Outcome([Kept(version, (refused,)) for version in versions]), refused)
    return ClientPlan(name, spare(spare(outcome, newest), kept, BASELINE))


def _baselines_of(top: TopTier, client: Client, own: Sequence[StoredVersion], silent_since_s: float) -> set[str]:
    """IDs of the versions that the client may build on, unless nothing has come from it since then."""
    if max(parse_time(received_time(version.snapshot))[0] for version in own) < silent_since_s:
        return set()
    kept = {(client.fingerprint[:16], *pair) for pair in baselines(top.state.client(client.fingerprint).versions())}
    return {version.id for version in own if kept & _keys(version)}


def _keys(version: StoredVersion) -> set[VersionKey]:
    return set(version_keys(version))


def _old_pins(
    top: TopTier, client: Client, versions: Iterable[StoredVersion], before_s: float
) -> Iterator[StoredVersion]:
    """Of a baseline that was given to the client then, and on which it has built nothing since."""
    pins = adoption_pins(versions, client.fingerprint)
    since = top.state.get(adopted_fact(client)) if pins else None
    if since is not None and parse_time(since.decode())[0] < before_s:
        yield from pins


def _say_refusals(plan: ForgetPlan, reporter: Reporter) -> None:
    for client in plan.clients:
        if client.refused:
            reporter.note(f"client {client.name or 'unknown'}: {client.refused}")
