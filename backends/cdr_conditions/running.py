"""Runs a program to learn something from it: within a time limit, with its children."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Answer:
    """``code`` is None when the time ran out; 127 when there is no such program."""

    code: int | None
    text: str = ""


Runner: TypeAlias = Callable[[Sequence[str], float], Answer]
"""Arguments and seconds to what came of it."""


def run(arguments: Sequence[str], limit_s: float) -> Answer:
    """Exit code and standard output of a program that is known to say little; standard input is empty."""
    import subprocess

    return _run(arguments, limit_s, subprocess.PIPE)


def run_silently(arguments: Sequence[str], limit_s: float) -> Answer:
    """The exit code; whatever the program says is dropped."""
    import subprocess

    return _run(arguments, limit_s, subprocess.DEVNULL)


def _run(arguments: Sequence[str], limit_s: float, output: int) -> Answer:
    import signal
    import subprocess

    try:
        started = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            errors="replace",
        )
    except OSError:
        return Answer(127)
    with started:
        try:
            text, _ = started.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)  # its children too, which may hold the pipe
            return Answer(None)
    return Answer(started.returncode, text or "")
