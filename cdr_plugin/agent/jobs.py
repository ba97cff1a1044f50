"""Which jobs a configuration asks for, and which of them build on each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cdr_plugin.model.quantities import parse_duration

if TYPE_CHECKING:
    from cdr_plugin.config import Config, TierConfig


class JobKind(StrEnum):
    """The commands that the agent runs, in the order in which data flows through a tier."""

    BACKUP = "backup"
    RECEIVE = "receive"
    SEND = "send"
    FORGET = "forget"
    CHECK = "check"


DEFAULT_EVERY_S: Mapping[JobKind, float] = {JobKind.BACKUP: 86400, JobKind.RECEIVE: 300, JobKind.SEND: 900}
"""Without ``every`` in ``when``: a version a day. Inboxes and answers are looked at about as often as somebody
who waits for them would; a look costs 0.3 s of one core."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something that one tier does again and again; ``tier`` and ``kind`` name it."""

    tier: str
    kind: JobKind
    every_s: float
    on_demand: bool = False
    """Nobody said how often: it may also begin earlier, when there is a reason."""
    conditions: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Its ``when`` table without ``every``."""

    @property
    def key(self) -> tuple[str, JobKind]:
        return self.tier, self.kind


def jobs_of(tiers: Iterable[TierConfig]) -> list[Job]:
    """All jobs of these tiers."""
    found: list[Job] = []
    for tier in tiers:
        found += (_job(tier.name, kind, when) for kind, when in _whens(tier))
        found += _care_of(tier)
    return found


def _care_of(tier: TierConfig) -> Iterator[Job]:
    if tier.store is None:
        return
    when = tier.store.when
    conditions = {name: value for name, value in when.items() if name != "every"}
    at_least_s = parse_duration(when["every"]) if "every" in when else 0
    for kind, plan in ((JobKind.FORGET, tier.store.forget), (JobKind.CHECK, tier.store.check)):
        if plan is not None:
            yield Job(tier.name, kind, max(plan.every_s, at_least_s), False, conditions)


CARE = (JobKind.FORGET, JobKind.CHECK)
"""What ``store`` has done by schedule; for the command line: ``--scheduled``."""


def _whens(tier: TierConfig) -> Iterator[tuple[JobKind, Mapping[str, Any]]]:
    if tier.source is not None:
        yield JobKind.BACKUP, tier.source.when
    if tier.receive is not None:
        # Groups with conditions of their own: 'cdr receive' asks them, each for itself.
        has_own = any(group.when is not None for group in tier.groups.values())
        yield JobKind.RECEIVE, {} if has_own else tier.receive.when
    if tier.forward is not None:
        yield JobKind.SEND, tier.forward.when


def _job(tier: str, kind: JobKind, when: Mapping[str, Any]) -> Job:
    conditions = {name: value for name, value in when.items() if name != "every"}
    if "every" in when:
        return Job(tier, kind, parse_duration(when["every"]), False, conditions)
    return Job(tier, kind, DEFAULT_EVERY_S[kind], kind is not JobKind.BACKUP, conditions)


def followers(config: Config, job: Job) -> set[tuple[str, JobKind]]:
    """Keys of the jobs that have a reason to begin when ``job`` has done something: what was made or taken
    goes out, what was put is taken, and what was stored is answered."""
    tier = config.tiers[job.tier]
    if job.kind is JobKind.SEND:
        return {(above.name, JobKind.RECEIVE) for above in config.tiers_above(tier)}
    if tier.forward is not None:
        return {(tier.name, JobKind.SEND)}
    if job.kind is JobKind.FORGET:  # a pass tells the clients what is gone
        return {(tier.name, JobKind.RECEIVE)}
    return {(below.name, JobKind.SEND) for below in config.tiers_below(tier)}


def upward(config: Config, jobs: Iterable[Job]) -> list[Job]:
    """In the order in which each finds what the others made: lower tiers first, sending last in a tier."""
    kinds = list(JobKind)
    return sorted(jobs, key=lambda job: (_height(config, config.tiers[job.tier]), job.tier, kinds.index(job.kind)))


def _height(config: Config, tier: TierConfig) -> int:
    return 1 + max((_height(config, below) for below in config.tiers_below(tier)), default=0)
