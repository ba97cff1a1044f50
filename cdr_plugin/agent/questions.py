"""Asks whether a job is convenient, beside the loop: conditions ask networks and commands, and may take a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdr_plugin.agent.jobs import Job, JobKind
from cdr_plugin.contracts import Verdict
from cdr_plugin.convenience import Convenience

if TYPE_CHECKING:
    from cdr_plugin.config import TierConfig
    from cdr_plugin.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Answered:
    """The conditions of a job have been asked."""

    job: Job
    verdict: Verdict


class Questions:
    """At most one question per job is open. Each answer is given to ``answered``, from another thread."""

    def __init__(self, plugins: Plugins, answered: Callable[[Answered], None]) -> None:
        self._plugins = plugins
        self._answered = answered
        self._open: set[Job] = set()

    def ask(self, job: Job, tier: TierConfig, last_done_s: float | None) -> None:
        """Begin to ask, unless that is under way."""
        if job in self._open:
            return
        self._open.add(job)
        convenience = Convenience(self._plugins, job.conditions, _storages(job, tier))
        threading.Thread(target=self._ask, args=(job, convenience, last_done_s), daemon=True).start()

    def close(self, job: Job) -> None:
        """Its answer has been taken."""
        self._open.discard(job)

    def _ask(self, job: Job, convenience: Convenience, last_done_s: float | None) -> None:
        self._answered(Answered(job, convenience.ask(last_done_s)))


def _storages(job: Job, tier: TierConfig) -> tuple[str, ...]:
    if job.kind is JobKind.SEND and tier.forward is not None:
        return tier.forward.to
    return tier.receive.inbox if job.kind is JobKind.RECEIVE and tier.receive is not None else ()
