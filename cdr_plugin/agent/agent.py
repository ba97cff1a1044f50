"""The loop of ``cdr run``: hears signals and ended jobs, looks around, begins what the scheduler says."""

from __future__ import annotations

import queue
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from pathlib import Path
from random import Random
from types import FrameType

from cdr_plugin.agent.configuration import InForce
from cdr_plugin.agent.elapsed import Clock
from cdr_plugin.agent.jobs import CARE, Job, JobKind, followers, jobs_of, upward
from cdr_plugin.agent.ledger import read_ledger, write_ledger
from cdr_plugin.agent.log import JobVoice, Log
from cdr_plugin.agent.newest import last_care_s, newest_version_s
from cdr_plugin.agent.notify import Notifier
from cdr_plugin.agent.process import EXIT_FOUND, Ended, Process, command_line
from cdr_plugin.agent.questions import Answered, Questions
from cdr_plugin.agent.results import in_words
from cdr_plugin.agent.scheduler import Outcome, Record, Scheduler, Why
from cdr_plugin.agent.surroundings import default_routes, read_clock
from cdr_plugin.contracts import Verdict
from cdr_plugin.convenience import PAUSED
from cdr_plugin.errors import CdrError
from cdr_plugin.files import exclusive
from cdr_plugin.pause import paused_since_s
from cdr_plugin.plugins import Plugins

LOOK_AROUND_S = 30.0
"""How often the agent looks whether the network, the clocks or the configuration changed: 0.2 ms of work."""
GRACE_S = 30.0
"""What jobs get to end by themselves (the ``after`` command included) when the agent is told to stop."""
KILLED_S = 10.0
"""Until a killed job is gone; one that hangs in a dead mount stays, and nothing can be done about it."""
_NOTE_TIME_EVERY_S = 3600.0

EXIT_FAILED, EXIT_WAITING = 1, 75


class Order(Enum):
    """What signals tell the agent."""

    STOP = auto()
    RELOAD = auto()
    LOOK = auto()


_ORDERS = {
    signal.SIGTERM: Order.STOP,
    signal.SIGINT: Order.STOP,
    signal.SIGHUP: Order.RELOAD,
    signal.SIGUSR1: Order.LOOK,
}


class Agent:
    """One agent for some tiers; to be used as a context manager, which holds a lock in each state folder."""

    def __init__(
        self,
        in_force: InForce,
        reload: Callable[[], InForce],
        plugins: Plugins,
        log: Log,
        *,
        notifier: Notifier | None = None,
    ) -> None:
        """``reload`` reads the configuration anew; CdrError."""
        self._reload_config = reload
        self._log = log
        self._notifier = notifier or Notifier()
        self._scheduler = Scheduler(self._verdict, Random())
        self._events: queue.SimpleQueue[Order | Ended | Answered] = queue.SimpleQueue()
        self._questions = Questions(plugins, self._events.put)
        self._answers: dict[tuple[str, JobKind], Verdict] = {}
        """Those that no plan has used yet."""
        self._running: dict[tuple[str, JobKind], Process] = {}
        self._voices: dict[tuple[str, JobKind], JobVoice] = {}
        self._locks: dict[Path, ExitStack] = {}
        self._stopping = False
        self._stamp = in_force.stamp
        self._routes = default_routes()
        self._noted_s = read_clock().steady_s
        self._adopt(in_force)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_error: object) -> None:
        for lock in self._locks.values():
            lock.close()

    # --- the two ways to run ---

    def run(self) -> int:
        """Until told to stop; the exit code."""
        with self._listening():
            self._notifier.ready()
            self._log.info(f"agent for {', '.join(tier.name for tier in self._in_force.tiers)}", event="started")
            while not self._stopping:
                self._look_around()
                sleep_s = self._begin_what_is_due()
                self._notifier.alive(self._status())
                self._hear(min(sleep_s, LOOK_AROUND_S))
            self._stop()
        return 0

    def once(self) -> int:
        """Each job that is due, one after the other, once. 0, 1 when one failed, 75 when work waits."""
        outcomes: list[Outcome] = []
        with self._listening():
            for job in upward(self._in_force.config, jobs_of(self._in_force.tiers)):
                if self._stopping:
                    break
                outcomes += self._do_once(job)
            if self._stopping:
                self._stop()
                outcomes.append(Outcome.STOPPED)
        if Outcome.FAILED in outcomes:
            return EXIT_FAILED
        return EXIT_WAITING if {Outcome.NOT_NOW, Outcome.STOPPED} & set(outcomes) else 0

    def _do_once(self, job: Job) -> Iterator[Outcome]:
        self._begin_what_is_due([job])
        task = self._scheduler.tasks[job.key]
        while task.why is Why.ANSWER and not self._stopping:
            self._hear(LOOK_AROUND_S)
            self._begin_what_is_due([job])
        if task.why is Why.CONDITIONS:
            self._log.detail(task.reason, tier=job.tier, job=job.kind.value)
            yield Outcome.NOT_NOW
        while job.key in self._running and not self._stopping:
            for ended in self._hear(LOOK_AROUND_S):
                yield Outcome.FAILED if ended.code == EXIT_FOUND else ended.outcome

    # --- beginning and ending jobs ---

    def _begin_what_is_due(self, among: list[Job] | None = None) -> float:
        """How long there is nothing to do."""
        clock = read_clock()
        plan = self._scheduler.plan(clock, among)
        done_elsewhere = [job for job in plan.start if self._was_done_elsewhere(job, clock)]
        for job in plan.start:
            if job not in done_elsewhere:
                self._begin(job)
        return self._begin_what_is_due(done_elsewhere) if done_elsewhere else plan.sleep_s

    def _was_done_elsewhere(self, job: Job, clock: Clock) -> bool:
        """A version that is newer than what we know of, or a check: made by hand, or by an agent that was killed
        before it could note it."""
        tier, done = self._in_force.config.tiers[job.tier], self._scheduler.tasks[job.key].record.done
        if job.kind is JobKind.BACKUP:
            newest_s = newest_version_s(tier)
        elif job.kind in CARE:
            newest_s = last_care_s(tier, job.kind)
        else:
            return False
        if newest_s is None or newest_s > clock.wall_s or (done is not None and newest_s <= done.wall_s):
            return False
        self._scheduler.done_elsewhere(job, newest_s, clock)
        self._note(job.tier)
        return True

    def _begin(self, job: Job) -> None:
        voice = self._voices.setdefault(job.key, JobVoice(self._log, job.tier, job.kind.value))
        voice.begin()
        self._log.detail("begins", tier=job.tier, job=job.kind.value, event="began")
        command = command_line(str(self._in_force.file), job)
        try:
            self._running[job.key] = Process(job, command, self._in_force.text, voice.say, self._events.put)
        except OSError as error:
            self._ended(Ended(job, Outcome.FAILED, 1, f"no process could be made: {error.strerror}"))

    def _ended(self, ended: Ended) -> None:
        job = ended.job
        self._running.pop(job.key, None)
        self._scheduler.ended(
            job,
            ended.outcome,
            read_clock(),
            text=ended.text,
            ask_again_s=ended.ask_again_s,
            progressed=ended.did_something,
        )
        self._tell(ended)
        self._note(job.tier)
        if ended.did_something and job.tier in self._in_force.config.tiers:
            self._scheduler.want(followers(self._in_force.config, job))

    def _tell(self, ended: Ended) -> None:
        job = ended.job
        fields = {"tier": job.tier, "job": job.kind.value, "event": ended.outcome.name.lower(), "code": ended.code}
        match ended.outcome:
            case Outcome.DONE if ended.did_something:
                incomplete = "; some files could not be read" if ended.code == 3 else ""
                words = in_words(job.kind, ended.summary)
                self._log.info(f"{words}{incomplete}", **fields, summary=ended.summary)
            case Outcome.DONE:
                self._log.detail("nothing to do", **fields)
            case Outcome.FAILED:
                self._log.error(f"failed: {ended.text}", **fields)
            case _:
                self._log.detail(ended.text, **fields)

    # --- what the scheduler asks, and what it is told ---

    def _verdict(self, job: Job, last_done_s: float | None) -> Verdict | None:
        tier = self._in_force.config.tiers[job.tier]
        if paused_since_s(tier.state) is not None:
            return PAUSED
        if not job.conditions:
            return Verdict(True)
        verdict = self._answers.pop(job.key, None)
        if verdict is None:
            self._questions.ask(job, tier, last_done_s)
        return verdict

    def _hear(self, timeout_s: float) -> list[Ended]:
        """Wait for something to happen, and take in all that has."""
        ended: list[Ended] = []
        while True:
            try:
                event = self._events.get(timeout=0 if ended else timeout_s)
            except queue.Empty:
                return ended
            if isinstance(event, Ended):
                self._ended(event)
                ended.append(event)
            elif isinstance(event, Answered):
                self._take_answer(event)
                return ended
            else:
                self._obey(event)
                return ended

    def _take_answer(self, answer: Answered) -> None:
        self._questions.close(answer.job)
        task = self._scheduler.tasks.get(answer.job.key)
        if task is not None and task.job.conditions == answer.job.conditions:  # else a new configuration came between
            self._answers[answer.job.key] = answer.verdict
        self._scheduler.answered(answer.job)

    def _obey(self, order: Order) -> None:
        if order is Order.STOP:
            self._stopping = True
        elif order is Order.RELOAD:
            self._reload()
        else:
            self._scheduler.want(list(self._scheduler.tasks))
            self._scheduler.look_again(read_clock())

    # --- looking around ---

    def _look_around(self) -> None:
        if self._in_force.stamp_now() != self._stamp:
            self._reload()
        routes = default_routes()
        clock = read_clock()
        if routes != self._routes:
            self._routes = routes
            self._log.detail("the network changed")
            self._scheduler.look_again(clock)
        if clock.steady_s - self._noted_s > _NOTE_TIME_EVERY_S:
            self._note_passing_time(clock)

    def _reload(self) -> None:
        self._stamp = self._in_force.stamp_now()
        try:
            self._adopt(self._reload_config())
        except CdrError as error:
            self._log.error(f"{error}; the configuration before stays in force", event="reload")
        else:
            self._log.info("configuration read again", event="reload")

    def _adopt(self, in_force: InForce) -> None:
        """From now on this configuration; nothing has changed when this raises."""
        folders = {tier.state: tier.name for tier in in_force.tiers}
        with ExitStack() as undo:
            fresh: dict[Path, ExitStack] = {}
            for folder in folders.keys() - self._locks.keys():
                fresh[folder] = undo.enter_context(ExitStack())
                fresh[folder].enter_context(exclusive(folder / "agent.lock", f"agent of {folders[folder]}"))
            undo.pop_all()
        self._locks.update(fresh)
        for folder in self._locks.keys() - folders.keys():
            self._locks.pop(folder).close()
        self._in_force, self._stamp = in_force, in_force.stamp
        self._answers.clear()
        ledgers = {tier.name: self._ledger(tier.state) for tier in in_force.tiers}
        self._scheduler.set_jobs(jobs_of(in_force.tiers), lambda job: ledgers[job.tier].get(job.kind, Record()))

    # --- what is remembered ---

    def _ledger(self, folder: Path) -> dict[JobKind, Record]:
        try:
            return read_ledger(folder)
        except (CdrError, OSError) as error:
            self._log.warning(str(error))
            return {}

    def _note(self, tier: str) -> None:
        """Remember the jobs of a tier for good."""
        records = {kind: task.record for (name, kind), task in self._scheduler.tasks.items() if name == tier}
        if not records:
            return  # a new configuration does without the tier
        try:
            write_ledger(self._in_force.config.tiers[tier].state, records)
        except CdrError as error:
            self._log.error(str(error), tier=tier)

    def _note_passing_time(self, clock: Clock) -> None:
        """What only the steady clock has seen would be lost with this process."""
        self._noted_s = clock.steady_s
        for tier in self._in_force.tiers:
            self._note(tier.name)

    # --- the end ---

    def _stop(self) -> None:
        """End the jobs under way, gently for a while."""
        self._notifier.stopping()
        for process in self._running.values():
            process.stop()
        self._wait_for_the_last(GRACE_S)
        for process in self._running.values():
            process.kill()
        self._wait_for_the_last(KILLED_S)
        self._note_passing_time(read_clock())
        self._log.info("agent stopped", event="stopped")

    def _wait_for_the_last(self, limit_s: float) -> None:
        """Until no job is under way, the time is up, or we are told to stop once more."""
        self._stopping = False
        end_s = read_clock().steady_s + limit_s
        while self._running and not self._stopping and (left_s := end_s - read_clock().steady_s) > 0:
            self._hear(left_s)

    def _status(self) -> str:
        if self._running:
            return "working: " + ", ".join(f"{kind.value} of {tier}" for tier, kind in self._running)
        tasks = self._scheduler.tasks.values()
        waiting = [f"{task.job.kind.value} of {task.job.tier}: {task.reason}" for task in tasks if task.reason]
        return "; ".join(waiting) or "nothing is due"

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Signals become events; as before afterwards."""

        def hear(number: int, _frame: FrameType | None) -> None:
            self._events.put(_ORDERS[signal.Signals(number)])

        before = {number: signal.signal(number, hear) for number in _ORDERS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
