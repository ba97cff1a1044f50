"""A job is a child process: what it says, how it ended, how it is ended. Real processes, not cdr."""

from __future__ import annotations

import queue
import sys
from dataclasses import dataclass, field

import pytest

from cdr_plugin.agent.jobs import Job, JobKind
from cdr_plugin.agent.process import Ended, Process, command_line
from cdr_plugin.agent.scheduler import Outcome

LIMIT_S = 120
"""For what takes milliseconds on a machine that has time."""

JOB = Job("alice", JobKind.SEND, 900)


@dataclass
class Heard:
    """A process, and what came of it."""

    said: list[tuple[str, bool]] = field(default_factory=list)
    lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)
    ends: queue.SimpleQueue[Ended] = field(default_factory=queue.SimpleQueue)

    def begin(self, program: str, text: str = "") -> Process:
        return Process(JOB, [sys.executable, "-c", program], text, self._say, self.ends.put)

    def _say(self, line: str, is_error: bool) -> None:
        self.said.append((line, is_error))
        self.lines.put(line)

    def end(self) -> Ended:
        return self.ends.get(timeout=LIMIT_S)


def ended(program: str, text: str = "") -> tuple[Ended, list[tuple[str, bool]]]:
    heard = Heard()
    heard.begin(program, text)
    return heard.end(), heard.said


def test_the_configuration_comes_on_standard_input_whole() -> None:
    text = "ü" * 3_000_000
    result, _ = ended("import sys; sys.exit(0 if len(sys.stdin.buffer.read()) == 6_000_000 else 9)", text)
    assert result.outcome is Outcome.DONE


def test_a_job_that_does_not_read_it_does_no_harm() -> None:
    result, _ = ended("pass", "x" * 3_000_000)
    assert result.outcome is Outcome.DONE


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(0, Outcome.DONE), (3, Outcome.DONE), (75, Outcome.NOT_NOW), (11, Outcome.NOT_NOW), (1, Outcome.FAILED)],
)
def test_the_exit_code_tells_how_it_ended(code: int, outcome: Outcome) -> None:
    result, _ = ended(f"raise SystemExit({code})")
    assert (result.outcome, result.code) == (outcome, code)


@pytest.mark.parametrize(("completed", "outcome"), [("True", Outcome.DONE), ("False", Outcome.FAILED)])
def test_work_that_was_done_and_found_something_bad_is_not_done_again_at_once(completed: str, outcome: Outcome) -> None:
    program = f"""
import json, sys
print(json.dumps({{"message_type": "error", "item": "hq", "message": "damage"}}))
print(json.dumps({{"message_type": "summary", "completed": {completed}}}))
sys.exit(1)"""
    result, said = ended(program)
    assert (result.outcome, result.code) == (outcome, 1)
    assert said == [("hq: damage", True)]


def test_care_is_asked_for_by_schedule() -> None:
    assert command_line("cdr.toml", Job("hq", JobKind.CHECK, 5))[-5:] == ["-T", "hq", "--json", "check", "--scheduled"]
    assert command_line("cdr.toml", JOB)[-4:] == ["-T", "alice", "--json", "send"]


def test_its_summary_its_reason_and_when_to_ask_again_are_heard_and_progress_is_not_said() -> None:
    program = """
import json, sys
for message in (
    {"message_type": "status", "bytes_done": 5},
    {"message_type": "note", "message": "a note"},
    {"message_type": "error", "item": "x", "message": "unreadable"},
    {"message_type": "summary", "segments_sent": 2},
    {"message_type": "exit_error", "error": "not now", "ask_again_s": 7},
):
    print(json.dumps(message))
print("of a command")
sys.exit(75)"""
    result, said = ended(program)
    assert said == [("a note", False), ("x: unreadable", True), ("of a command", False)]
    assert (result.text, result.ask_again_s, result.summary["segments_sent"]) == ("not now", 7.0, 2)
    assert result.did_something


@pytest.mark.parametrize(
    "expression",
    ["'[' * 200_000", "'{'", "'null'", "'3'", "'{\"message_type\": []}'", "'x' * 3_000_000", "'{' * 3_000_000", "''"],
)
def test_whatever_it_says_stops_nothing(expression: str) -> None:
    result, _ = ended(f"print({expression})")
    assert (result.outcome, result.summary) == (Outcome.DONE, {})


def test_bytes_that_are_no_text_are_said_as_far_as_they_are() -> None:
    _, said = ended("import sys; sys.stdout.buffer.write(b'a\\xffb\\n')")
    assert said == [("a\ufffdb", False)]


def test_a_job_that_ended_well_but_waits_for_something_is_not_done() -> None:
    summary = '{"message_type": "summary", "segments_sent": 0, "waiting_for": "waiting for power"}'
    result, _ = ended(f"print({summary!r})")
    assert (result.outcome, result.text) == (Outcome.NOT_NOW, "waiting for power")


def test_a_job_that_is_killed_has_failed_and_says_by_what() -> None:
    result, _ = ended("import os; os.kill(os.getpid(), 9)")
    assert (result.outcome, result.text) == (Outcome.FAILED, "it was killed by SIGKILL")


def test_a_stopped_job_gets_the_chance_to_end_well() -> None:
    heard = Heard()
    program = """
import time
try:
    print("at work", flush=True)
    time.sleep(1000)
except KeyboardInterrupt:
    print("tidied up", flush=True)
    raise SystemExit(130)"""
    process = heard.begin(program)
    assert heard.lines.get(timeout=LIMIT_S) == "at work"
    process.stop()
    result = heard.end()
    assert (result.outcome, result.code) == (Outcome.STOPPED, 130)
    assert ("tidied up", False) in heard.said
    process.stop()  # nothing is there any more


def test_a_job_that_does_not_listen_is_killed_with_its_children() -> None:
    heard = Heard()
    program = """
import signal, subprocess, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
print(child.pid, flush=True)
time.sleep(1000)"""
    process = heard.begin(program)
    heard.lines.get(timeout=LIMIT_S)
    process.stop()
    process.kill()
    # The pipe is the child's too: all of what was said is read only because it died as well.
    assert heard.end().outcome is Outcome.STOPPED
