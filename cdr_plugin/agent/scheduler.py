"""What to do next and how long to sleep: the pure core of the agent.

Clocks, chance and the policy are passed in, so that years can be simulated in seconds. Promises:

* A job does not begin before its interval has gone by since it last began and ended well (or there is
  a reason to, for jobs on demand), and begins once, not once per interval missed.
* It begins as soon as it is due and convenient, at most ``LATEST_QUESTION_S`` after it became so.
* Failures put it off for a while that doubles; what is not convenient is no failure.
* A wall clock that jumps, forward or back, delays nothing by more than its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import TypeAlias

from cdr_plugin.agent.backoff import LATEST_QUESTION_S, SHORTEST_S, delay_s, question_s
from cdr_plugin.agent.elapsed import Clock, Moment
from cdr_plugin.agent.jobs import Job, JobKind
from cdr_plugin.contracts import Verdict

Policy: TypeAlias = Callable[[Job, float | None], Verdict | None]
"""(job, when it was last done by the clock of now) -> is it convenient, its interval aside? None: that is
being found out, and ``answered`` tells."""

JUMP_S = 30.0
"""Clocks that disagree by more than this since the last look: the machine slept, or somebody set one."""


class Outcome(Enum):
    """How a job ended."""

    DONE = auto()
    NOT_NOW = auto()
    """Nothing wrong, but it is not convenient, or somebody else is at it."""
    FAILED = auto()
    STOPPED = auto()
    """By us."""


@dataclass(slots=True)
class Record:
    """What is remembered of a job for good."""

    done: Moment | None = None
    """When it last began and ended well."""
    failures: int = 0
    """In a row."""
    error: str = ""
    """Of the last of them."""


class Why(Enum):
    """What an idle job waits for."""

    NOTHING = auto()
    INTERVAL = auto()
    ANSWER = auto()
    """Its conditions are being asked."""
    CONDITIONS = auto()
    FAILURE = auto()


@dataclass(slots=True)
class Task:
    """A job, what is remembered of it, and what this process knows."""

    job: Job
    record: Record
    began: Moment | None = None
    """While it is under way."""
    wanted: bool = False
    """There is a reason not to wait for the interval."""
    why: Why = Why.NOTHING
    reason: str = ""
    """For people: what it waits for."""
    look_s: float = float("-inf")
    """Not before the steady clock shows this."""
    failed_s: float = float("-inf")
    """When it last failed, by the steady clock."""

    def due_in_s(self, clock: Clock) -> float:
        """Seconds until its interval has gone by; 0 when it is due."""
        if self.record.done is None or (self.wanted and self.job.on_demand):
            return 0.0
        return max(0.0, self.job.every_s - self.record.done.ago_s(clock))


@dataclass(frozen=True, slots=True)
class Plan:
    """Begin these now, then sleep."""

    start: list[Job] = field(default_factory=list)
    sleep_s: float = 0.0


class Scheduler:
    """Not for several threads at once. The caller begins what ``plan`` says, and reports each end once."""

    def __init__(self, policy: Policy, random: Random) -> None:
        self.tasks: dict[tuple[str, JobKind], Task] = {}
        self._policy = policy
        self._random = random
        self._last: Clock | None = None

    def set_jobs(self, jobs: Iterable[Job], record_of: Callable[[Job], Record]) -> None:
        """From now on these. Jobs that were there before keep what is known of them; those that are under
        way end as they are. All are looked at anew."""
        before, self.tasks = self.tasks, {}
        for job in jobs:
            old = before.get(job.key)
            record = record_of(job) if old is None else old.record
            task = Task(job, record, wanted=job.on_demand)
            if old is not None:
                task.began, task.wanted, task.failed_s = old.began, old.wanted, old.failed_s
                if old.why is Why.FAILURE:
                    task.why, task.look_s, task.reason = old.why, old.look_s, old.reason
            self.tasks[job.key] = task

    def plan(self, clock: Clock, among: Collection[Job] | None = None) -> Plan:
        """What to begin at this moment, of all jobs or of some. Each of them counts as begun."""
        self._notice_jumps(clock)
        asked = list(self.tasks.values()) if among is None else [self.tasks[job.key] for job in among]
        start = [task.job for task in asked if self._may_start(task, clock)]
        waits = (task.look_s - clock.steady_s for task in self.tasks.values() if task.began is None)
        return Plan(start, max(0.0, min(waits, default=LATEST_QUESTION_S)))

    def ended(
        self,
        job: Job,
        outcome: Outcome,
        clock: Clock,
        *,
        text: str = "",
        ask_again_s: float = 60.0,
        progressed: bool = False,
    ) -> None:
        """A job that ``plan`` began has ended. ``text``: why it failed, or what it waits for; ``progressed``: it
        did a part of its work before it failed, so this is no failure in a row."""
        task = self.tasks.get(job.key)
        if task is None:
            return  # a new configuration does without it
        began, task.began = task.began, None
        if outcome is Outcome.DONE:
            if began is not None:
                began.advance(clock)
            task.record.done, task.record.failures, task.record.error = began, 0, ""
            task.why, task.reason, task.look_s = Why.NOTHING, "", clock.steady_s
        elif outcome is Outcome.FAILED:
            task.record.failures = 1 if progressed else task.record.failures + 1
            self._failed(task, clock, text)
        elif outcome is Outcome.NOT_NOW:
            task.wanted = True
            task.why, task.reason = Why.CONDITIONS, text
            task.look_s = clock.steady_s + question_s(ask_again_s)

    def done_elsewhere(self, job: Job, wall_s: float, clock: Clock) -> None:
        """Somebody else did it at ``wall_s``, or this agent's predecessor and did not live to note it."""
        task = self.tasks[job.key]
        task.record.done = Moment(wall_s, seen_steady_s=clock.steady_s)
        task.began, task.look_s = None, clock.steady_s

    def answered(self, job: Job) -> None:
        """The policy knows now what it did not know when it was asked for ``job``."""
        task = self.tasks.get(job.key)
        if task is not None and task.why is Why.ANSWER:
            task.look_s = float("-inf")

    def want(self, keys: Collection[tuple[str, JobKind]]) -> None:
        """There is a reason to do these now, where nobody said how often."""
        for key in keys:
            task = self.tasks.get(key)
            if task is not None and task.job.on_demand:
                task.wanted = True
                if task.why is not Why.FAILURE:
                    task.look_s = float("-inf")

    def look_again(self, clock: Clock) -> None:
        """The surroundings changed: ask everything anew, and try again what failed more than a moment ago."""
        for task in self.tasks.values():
            if task.why is Why.FAILURE:
                soonest = task.failed_s + SHORTEST_S
                task.look_s = min(task.look_s, max(soonest, clock.steady_s))
            else:
                task.look_s = float("-inf")

    def _may_start(self, task: Task, clock: Clock) -> bool:
        if task.record.done is not None:
            task.record.done.advance(clock)
        if task.began is not None:
            task.began.advance(clock)
        if task.began is not None or clock.steady_s < task.look_s:
            return False
        due_in_s = task.due_in_s(clock)
        if due_in_s > 0:
            task.why, task.reason = Why.INTERVAL, ""
            task.look_s = clock.steady_s + question_s(due_in_s)
            return False
        done = task.record.done
        verdict = self._policy(task.job, None if done is None else clock.wall_s - done.ago_s(clock))
        if verdict is None:
            task.why, task.look_s = Why.ANSWER, clock.steady_s + LATEST_QUESTION_S
            return False
        if not verdict.convenient:
            task.why, task.reason = Why.CONDITIONS, verdict.reason
            task.look_s = clock.steady_s + question_s(verdict.ask_again_s)
            return False
        task.began = Moment(clock.wall_s, seen_steady_s=clock.steady_s)
        task.wanted, task.why, task.reason = False, Why.NOTHING, ""
        return True

    def _failed(self, task: Task, clock: Clock, text: str) -> None:
        task.record.error = text
        task.failed_s = clock.steady_s
        task.wanted = True
        task.why, task.reason = Why.FAILURE, f"trying again after: {text}"
        task.look_s = clock.steady_s + delay_s(task.record.failures, self._random)

    def _notice_jumps(self, clock: Clock) -> None:
        last, self._last = self._last, clock
        if last is not None and abs((clock.wall_s - last.wall_s) - (clock.steady_s - last.steady_s)) > JUMP_S:
            self.look_again(clock)
