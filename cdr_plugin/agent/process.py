"""One job as a child process: begin it, hear what it says, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Any

from cdr_plugin.agent.jobs import CARE, Job
from cdr_plugin.agent.results import did_something
from cdr_plugin.agent.scheduler import Outcome

_EXIT_DONE = {0, 3}
EXIT_FOUND = 1
"""With ``completed`` in the summary: the work was done, and what it found is bad. Doing it again soon would
find the same."""
_EXIT_NOT_NOW = {11, 75}
"""11: somebody has the repository to himself, for example to check it."""

_MAX_LINE_BYTES = 1 << 20
_LAST_WORDS_S = 5.0
"""How long after a job's end its last lines are waited for: what it left running may hold the pipe open."""

Say = Callable[[str, bool], None]
"""(line, whether it tells of an error): one line that a job has said. Called from any thread."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended. ``text``: why it failed or waits, if it did; ``summary`` is empty when it said none."""

    job: Job
    outcome: Outcome
    code: int
    text: str = ""
    summary: dict[str, Any] = field(default_factory=dict)
    ask_again_s: float = 60.0

    @property
    def did_something(self) -> bool:
        return did_something(self.job.kind, self.summary)


class Process:
    """A job that is under way, in a process group of its own; standard input is ``config_text``."""

    def __init__(
        self, job: Job, command: list[str], config_text: str, say: Say, ended: Callable[[Ended], None]
    ) -> None:
        """``ended`` is called once, from another thread. OSError when the process cannot be made."""
        self.job = job
        self._say = say
        self._ended = ended
        self._heard = _Heard()
        self._stopped = False
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for the agent, which passes it on
        )
        threading.Thread(target=self._wait, args=(config_text.encode(),), daemon=True).start()

    def stop(self) -> None:
        """Ask it to end, as Ctrl-C does; it keeps what it has. Idempotent."""
        self._stopped = True
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """End it now; the next run goes on from what is durable."""
        self._stopped = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._lock:
            if self._process.returncode is None:  # not reaped: the number is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)

    def _wait(self, config_text: bytes) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        reader = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        reader.start()
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(config_text)
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            code = self._process.wait()
        reader.join(_LAST_WORDS_S)
        self._ended(self._result(code))

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while line := pipe.readline(_MAX_LINE_BYTES):
                said = self._heard.hear(line.decode("utf-8", "replace").rstrip())
                if said is not None:
                    self._say(*said)

    def _result(self, code: int) -> Ended:
        heard = self._heard
        waiting_for = heard.summary.get("waiting_for")
        if code in _EXIT_DONE or (code == EXIT_FOUND and heard.summary.get("completed")):
            # Nothing was in the queue, but for the answers it was not convenient either.
            outcome = Outcome.NOT_NOW if waiting_for else Outcome.DONE
        elif self._stopped:
            outcome = Outcome.STOPPED
        else:
            outcome = Outcome.NOT_NOW if code in _EXIT_NOT_NOW else Outcome.FAILED
        text = "" if outcome is Outcome.DONE else str(waiting_for or heard.reason or _exit_in_words(code))
        return Ended(self.job, outcome, code, text, heard.summary, heard.ask_again_s)


def command_line(config_file: str, job: Job) -> list[str]:
    """The command that does ``job`` once."""
    # -P: whatever lies in the folder where the agent was started is no module of ours.
    own = [sys.executable, "-P", "-m", "cdr_plugin.agent.job_main", config_file]
    scheduled = ["--scheduled"] if job.kind in CARE else []
    return [*own, "-T", job.tier, "--json", job.kind.value, *scheduled]


class _Heard:
    """The lines of one job, as ``--json`` has them; other lines are those of the user's own commands."""

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}
        self.reason = ""
        """The error that ended it; else the last error or note before the end."""
        self.ask_again_s = 60.0

    def hear(self, line: str) -> tuple[str, bool] | None:
        """What of this line is worth saying, and whether it is an error."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            return (line, False) if line else None
        match message.get("message_type"):
            case "summary":
                self.summary = message
            case "exit_error":
                self.reason = str(message.get("error"))
                again_s = message.get("ask_again_s")
                self.ask_again_s = float(again_s) if isinstance(again_s, int | float) else self.ask_again_s
            case "error":
                self.reason = f"{message.get('item')}: {message.get('message')}"
                return self.reason, True
            case "note":
                self.reason = str(message.get("message"))
                return self.reason, False
        return None


def _exit_in_words(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"
