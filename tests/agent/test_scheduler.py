"""Promises of the scheduler: in single steps, and over ten thousand simulated days."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from cdr_plugin.agent.backoff import LATEST_QUESTION_S, LONGEST_S, SHORTEST_S
from cdr_plugin.agent.elapsed import Clock
from cdr_plugin.agent.jobs import Job, JobKind
from cdr_plugin.agent.scheduler import Outcome, Record, Scheduler, Why
from cdr_plugin.contracts import Verdict

from .simulation import DAY_S, HOUR_S, Habits, Machine

BACKUP = Job("alice", JobKind.BACKUP, DAY_S)
SEND = Job("alice", JobKind.SEND, 900, on_demand=True)
HOURLY_SEND = Job("alice", JobKind.SEND, HOUR_S)
NOW = Clock(1.7e9, 500.0)


def after(seconds: float, clock: Clock = NOW) -> Clock:
    return Clock(clock.wall_s + seconds, clock.steady_s + seconds)


class World:
    """A scheduler whose jobs are convenient while ``verdict`` says so."""

    def __init__(self, *jobs: Job, verdict: Verdict | None = Verdict(True)) -> None:  # noqa: B008
        self.verdict = verdict
        self.asked = 0
        self.scheduler = Scheduler(self._ask, Random(1))
        self.scheduler.set_jobs(jobs, lambda job: Record())

    def _ask(self, _job: Job, _last_done_s: float | None) -> Verdict | None:
        self.asked += 1
        return self.verdict

    def starts(self, clock: Clock) -> list[Job]:
        return self.scheduler.plan(clock).start

    def run(self, job: Job, clock: Clock, outcome: Outcome = Outcome.DONE) -> None:
        """It begins and ends at ``clock``."""
        assert job in self.starts(clock)
        self.scheduler.ended(job, outcome, clock)


# --- single steps ----------------------------------------------------------------------------------


def test_what_was_never_done_is_due_at_once() -> None:
    assert World(BACKUP, SEND).starts(NOW) == [BACKUP, SEND]


def test_a_job_under_way_is_not_begun_again_however_long_it_takes() -> None:
    world = World(BACKUP)
    assert world.starts(NOW) == [BACKUP]
    assert world.starts(after(30 * DAY_S)) == []


def test_a_done_job_waits_for_its_interval_from_when_it_began() -> None:
    world = World(BACKUP)
    assert world.starts(NOW) == [BACKUP]
    world.scheduler.ended(BACKUP, Outcome.DONE, after(5000))
    assert world.starts(after(DAY_S - 1)) == []
    assert world.starts(after(DAY_S)) == [BACKUP]


def test_nothing_is_asked_of_the_policy_before_the_interval_has_gone_by() -> None:
    world = World(BACKUP)
    world.run(BACKUP, NOW)
    asked = world.asked
    world.starts(after(DAY_S / 2))
    assert world.asked == asked


def test_a_job_on_demand_begins_early_when_there_is_a_reason_and_then_waits_again() -> None:
    world = World(SEND)
    world.run(SEND, NOW)
    assert world.starts(after(5)) == []
    world.scheduler.want([SEND.key])
    world.run(SEND, after(6))
    assert world.starts(after(7)) == []


def test_no_reason_makes_a_job_begin_more_often_than_the_user_said() -> None:
    world = World(HOURLY_SEND)
    world.run(HOURLY_SEND, NOW)
    world.scheduler.want([HOURLY_SEND.key])
    assert world.starts(after(5)) == []


@pytest.mark.parametrize(("says_s", "asked_after_s"), [(0.0, 1.0), (20.0, 20.0), (1e9, 900.0), (float("nan"), 1.0)])
def test_what_is_not_convenient_is_asked_again_when_the_verdict_says_within_bounds(
    says_s: float, asked_after_s: float
) -> None:
    world = World(BACKUP, verdict=Verdict(False, "waiting for power", says_s))
    plan = world.scheduler.plan(NOW)
    assert (plan.start, plan.sleep_s) == ([], asked_after_s)
    assert world.scheduler.tasks[BACKUP.key].record.failures == 0


def test_a_verdict_that_is_still_being_found_out_is_waited_for() -> None:
    world = World(BACKUP, verdict=None)
    assert world.starts(NOW) == []
    assert world.scheduler.tasks[BACKUP.key].why is Why.ANSWER
    world.verdict = Verdict(True)
    assert world.starts(after(1)) == []
    world.scheduler.answered(BACKUP)
    assert world.starts(after(1)) == [BACKUP]


def test_failures_put_a_job_off_for_longer_and_longer_up_to_an_hour_and_success_forgets_them() -> None:
    world, clock = World(BACKUP), NOW
    delays = []
    for _ in range(40):
        world.run(BACKUP, clock, Outcome.FAILED)
        delays.append(world.scheduler.plan(clock).sleep_s)
        assert world.starts(after(delays[-1] - 0.01, clock)) == []
        clock = after(delays[-1], clock)
    assert all(SHORTEST_S <= delay <= LONGEST_S for delay in delays)
    assert delays[4] > delays[0] and min(delays[10:]) >= LONGEST_S / 2
    assert len(set(delays)) == len(delays)
    world.run(BACKUP, clock)
    assert world.scheduler.tasks[BACKUP.key].record.failures == 0


def test_a_failure_after_a_part_of_the_work_is_the_first_in_a_row() -> None:
    world, clock = World(SEND), NOW
    for _ in range(10):
        world.run(SEND, clock, Outcome.FAILED)
        clock = after(LONGEST_S, clock)
    assert world.starts(clock) == [SEND]
    world.scheduler.ended(SEND, Outcome.FAILED, clock, progressed=True)
    assert world.scheduler.plan(clock).sleep_s <= 2 * SHORTEST_S


def test_what_is_refused_for_now_by_the_job_itself_is_no_failure() -> None:
    world = World(SEND)
    assert world.starts(NOW) == [SEND]
    world.scheduler.ended(SEND, Outcome.NOT_NOW, NOW, text="another process is at it", ask_again_s=20)
    task = world.scheduler.tasks[SEND.key]
    assert (task.record.failures, task.reason) == (0, "another process is at it")
    assert world.starts(after(19)) == []
    assert world.starts(after(20)) == [SEND]


def test_another_network_tries_again_what_failed_but_not_within_half_a_minute() -> None:
    world, clock = World(SEND), NOW
    for _ in range(10):
        world.run(SEND, clock, Outcome.FAILED)
        clock = after(LONGEST_S, clock)
    world.run(SEND, clock, Outcome.FAILED)
    world.scheduler.look_again(after(5, clock))
    assert world.starts(after(5, clock)) == []
    assert world.starts(after(SHORTEST_S, clock)) == [SEND]


@pytest.mark.parametrize("jump_s", [-400 * DAY_S, -HOUR_S, HOUR_S, 400 * DAY_S])
def test_a_jump_of_the_clock_asks_everything_anew(jump_s: float) -> None:
    world = World(BACKUP, verdict=Verdict(False, "waiting for the window", 800))
    world.starts(NOW)
    world.verdict = Verdict(True)
    assert world.starts(after(40)) == []
    assert world.starts(Clock(NOW.wall_s + 80 + jump_s, NOW.steady_s + 80)) == [BACKUP]


def test_a_new_configuration_keeps_what_is_known_and_what_is_under_way() -> None:
    world = World(BACKUP, SEND)
    world.run(BACKUP, NOW)
    assert SEND not in world.starts(NOW)  # begun together with the backup
    faster = Job("alice", JobKind.BACKUP, HOUR_S)
    world.scheduler.set_jobs([faster, SEND], lambda job: Record())
    assert world.starts(after(10)) == []
    assert world.starts(after(HOUR_S)) == [faster]


def test_the_end_of_a_job_that_a_new_configuration_does_without_changes_nothing() -> None:
    world = World(BACKUP, SEND)
    world.starts(NOW)
    world.scheduler.set_jobs([SEND], lambda job: Record())
    world.scheduler.ended(BACKUP, Outcome.DONE, NOW)
    world.scheduler.answered(BACKUP)
    world.scheduler.want([BACKUP.key])
    assert list(world.scheduler.tasks) == [SEND.key]


def test_a_version_that_somebody_else_made_counts() -> None:
    world = World(BACKUP)
    assert world.starts(NOW) == [BACKUP]
    world.scheduler.done_elsewhere(BACKUP, NOW.wall_s - HOUR_S, NOW)
    assert world.starts(after(1)) == []
    assert world.starts(after(DAY_S - HOUR_S)) == [BACKUP]


# --- ten thousand days -----------------------------------------------------------------------------

SEEDS = range(7)
DAYS = 500
SLIP_S = 1e-3
"""What doubles lose."""


def machine(seed: int, habits: Habits) -> Machine:
    return Machine(BACKUP, habits, Random(seed))


@pytest.mark.parametrize("seed", SEEDS)
def test_with_a_clock_that_is_right_versions_are_an_interval_apart_and_none_is_late(
    seed: int,
) -> None:
    habits = Habits(sleeps=0.02, is_off=0.003, dies=0.01, steady_in_sleep=bool(seed % 2))
    simulated = machine(seed, habits)
    simulated.live(DAYS)
    gaps = [later.true_s - earlier.true_s for earlier, later in pairwise(simulated.runs)]
    assert min(gaps) >= BACKUP.every_s - SLIP_S
    # What became due while nobody was there is done when somebody is; once.
    assert max(gaps) <= BACKUP.every_s + simulated.longest_away_s + 2 * LATEST_QUESTION_S
    assert simulated.attempts == len(simulated.runs)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_the_clock_is_set_to_no_version_is_later_than_an_interval_of_the_agents_life(
    seed: int,
) -> None:
    simulated = machine(seed, Habits(sleeps=0.01, is_off=0.001, dies=0.005, clock_set=0.01, steady_in_sleep=False))
    simulated.live(DAYS)
    assert len(simulated.runs) > DAYS / 2
    for earlier, later in pairwise(simulated.runs):
        life_s, by_the_clock_s = later.awake_s - earlier.awake_s, later.wall_s - earlier.wall_s
        assert max(life_s, by_the_clock_s) >= BACKUP.every_s - SLIP_S
        # A kill forgets what went by since the last note, an hour at most.
        forgotten_s = (HOUR_S + LATEST_QUESTION_S) * (later.restarts - earlier.restarts)
        assert life_s <= BACKUP.every_s + LATEST_QUESTION_S + forgotten_s


@pytest.mark.parametrize("seed", SEEDS)
def test_a_window_delays_a_version_by_a_day_at_most_and_failures_do_not_stop_it(
    seed: int,
) -> None:
    opens = Random(seed).uniform(0, 20)
    simulated = machine(seed, Habits(fails=0.3, window=(opens, opens + 4)))
    simulated.live(DAYS)
    gaps = [later.true_s - earlier.true_s for earlier, later in pairwise(simulated.runs)]
    assert min(gaps) >= BACKUP.every_s - SLIP_S
    assert max(gaps) <= BACKUP.every_s + 2 * DAY_S
    assert all(opens <= run.wall_s % DAY_S / HOUR_S < opens + 4 for run in simulated.runs)
    assert simulated.attempts < 2 * len(simulated.runs)


def test_a_month_off_is_caught_up_with_one_version() -> None:
    simulated = machine(1, Habits())
    simulated.live(10)
    before = len(simulated.runs)
    simulated.off(30 * DAY_S)
    back_s = simulated.true_s
    simulated.live(0.9)
    (caught_up,) = simulated.runs[before:]
    assert caught_up.true_s - back_s <= 1
