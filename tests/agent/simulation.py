"""Years of an agent's life in seconds: a machine that sleeps, is off, fails, and has a clock that somebody sets.

``true_s`` is what an outside observer's watch shows. The wall clock is that plus an error; the steady
clock counts while the machine is awake, and while it sleeps only if ``steady_in_sleep``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from cdr_plugin.agent.elapsed import Clock
from cdr_plugin.agent.jobs import Job
from cdr_plugin.agent.ledger import format_ledger, parse_ledger
from cdr_plugin.agent.scheduler import Outcome, Record, Scheduler
from cdr_plugin.contracts import Verdict

DAY_S = 86400.0
HOUR_S = 3600.0


@dataclass
class Habits:
    """What happens to the machine, as chances per look of the agent."""

    sleeps: float = 0.0
    is_off: float = 0.0
    """A restart of the agent, with the machine off for a while."""
    dies: float = 0.0
    """The agent is killed and started again at once."""
    fails: float = 0.0
    clock_set: float = 0.0
    window: tuple[float, float] = (0.0, 24.0)
    """Hours of the day, by the wall clock."""
    steady_in_sleep: bool = True


@dataclass
class Run:
    """A run of the job that ended well."""

    true_s: float
    wall_s: float
    awake_s: float
    restarts: int
    """Of the agent, before it."""


@dataclass
class Machine:
    """One job of one agent, simulated."""

    job: Job
    habits: Habits
    random: Random
    notes: bytes = format_ledger({})
    """The ledger."""
    true_s: float = 1.7e9
    error_s: float = 0.0
    steady_s: float = 0.0
    awake_s: float = 0.0
    """How long there was an agent at work."""
    noted_s: float = 0.0
    runs: list[Run] = field(default_factory=list)
    attempts: int = 0
    restarts: int = 0
    longest_away_s: float = 0.0
    scheduler: Scheduler = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    @property
    def clock(self) -> Clock:
        return Clock(self.true_s + self.error_s, self.steady_s)

    def start(self) -> None:
        """A new agent, which knows what the state folder holds."""
        self.scheduler = Scheduler(self._verdict, self.random)
        known = parse_ledger(self.notes)
        self.scheduler.set_jobs([self.job], lambda job: known.get(job.kind, Record()))

    def live(self, days: float) -> None:
        end_s = self.true_s + days * DAY_S
        while self.true_s < end_s:
            plan = self.scheduler.plan(self.clock)
            assert len(plan.start) <= 1
            if plan.start:
                self._work()
            else:
                self.pass_time(max(plan.sleep_s, 1e-3))
                self._fate()

    def pass_time(self, seconds: float) -> None:
        """The agent waits or works."""
        self.true_s += seconds
        self.steady_s += seconds
        self.awake_s += seconds
        if self.awake_s - self.noted_s > HOUR_S:
            self.noted_s = self.awake_s
            self.note()

    def away(self, seconds: float, *, steady: bool) -> None:
        self.true_s += seconds
        self.steady_s += seconds if steady else 0.0
        self.longest_away_s = max(self.longest_away_s, seconds)

    def off(self, seconds: float) -> None:
        """Machine and agent."""
        self.away(seconds, steady=False)
        self.steady_s = self.random.uniform(0, 100)
        self.restarts += 1
        self.start()

    def _work(self) -> None:
        began = Run(self.true_s, self.clock.wall_s, self.awake_s, self.restarts)
        self.attempts += 1
        self.pass_time(self.random.uniform(1, 1200))
        if self.random.random() < self.habits.fails:
            self.scheduler.ended(self.job, Outcome.FAILED, self.clock, text="no luck")
        else:
            self.scheduler.ended(self.job, Outcome.DONE, self.clock)
            self.runs.append(began)
        self.note()

    def note(self) -> None:
        """What the agent writes down."""
        self.notes = format_ledger({kind: task.record for (_, kind), task in self.scheduler.tasks.items()})

    def _fate(self) -> None:
        habits, chance = self.habits, self.random.random
        if chance() < habits.sleeps:
            self.away(self.random.expovariate(1 / (8 * HOUR_S)), steady=habits.steady_in_sleep)
        if chance() < habits.is_off:
            self.note()
            self.off(self.random.expovariate(1 / (2 * DAY_S)))
        if chance() < habits.dies:
            self.restarts += 1
            self.start()
        if chance() < habits.clock_set:
            self.error_s = self.random.choice([0.0, 60.0, -HOUR_S, -400 * DAY_S, 4000 * DAY_S, -9000 * DAY_S])

    def _verdict(self, _job: Job, _last_done_s: float | None) -> Verdict:
        opens, closes = self.habits.window
        hour = self.clock.wall_s % DAY_S / HOUR_S
        if opens <= hour < closes:
            return Verdict(True)
        return Verdict(False, "waiting for the window", (opens - hour) % 24 * HOUR_S)
