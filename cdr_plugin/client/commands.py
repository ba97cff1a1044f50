"""Commands of the user around a backup, and the one whose output is backed up."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from cdr_plugin.errors import UserError
from cdr_plugin.reporter import Reporter

_STANDARD_ERROR = 2
_PATIENCE_S = 5.0
"""How long a command whose output is not wanted any more may take to end by itself."""


@contextmanager
def commands_around(
    before: str | None, after: str | None, variables: Mapping[str, str], reporter: Reporter
) -> Iterator[None]:
    """Run ``before``; if it fails, raise UserError: there is to be no version. ``after`` always runs, also
    when ``before`` failed and when the run is interrupted or told to end.

    The shell runs both, with ``variables`` in their environment, without input, and with their output
    on standard error: what CDR prints stays its own.
    """
    with _ending_interrupts() if after is not None else _as_it_is():
        try:
            if before is not None and (code := _shell(before, variables)) != 0:
                raise UserError(f"the command before the backup failed ({code}): {before}; no version was made")
            yield
        finally:
            if after is not None and (code := _shell(after, variables)) != 0:
                reporter.note(f"the command after the backup failed ({code}): {after}")


def _shell(command: str, variables: Mapping[str, str]) -> int:
    done = subprocess.run(
        command,
        shell=True,
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=_STANDARD_ERROR,
        env={**os.environ, **variables},
    )
    return done.returncode


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _ending_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP act like Ctrl-C meanwhile. Only the main thread can have it so; in others
    nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    old = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def standard_input() -> Iterator[tuple[int, Callable[[], None]]]:
    """The descriptor of standard input, and what to call at its end; UserError."""
    if sys.stdin is None:
        raise UserError("standard input is closed; there is nothing to back up from it")
    yield sys.stdin.fileno(), lambda: None


@contextmanager
def command_output(words: Sequence[str]) -> Iterator[tuple[int, Callable[[], None]]]:
    """Run a command: the descriptor that gives its output, and what to call at its end, which raises
    UserError when the command failed. Leaving the block early ends the command."""
    shown = shlex.join(words)
    try:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    except (OSError, ValueError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise UserError(f"the command cannot be run ({why}): {shown}; no version was made") from None

    def finish() -> None:
        code = process.wait()
        if code != 0:
            how = f"with exit code {code}" if code > 0 else f"by signal {-code}"
            raise UserError(f"the command failed {how}: {shown}; no version was made")

    assert process.stdout is not None
    try:
        yield process.stdout.fileno(), finish
    finally:
        process.stdout.close()
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
