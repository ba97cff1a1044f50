"""Runs a command and turns what it raises into one line and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from cdr_plugin import __version__
from cdr_plugin.errors import CdrError

if TYPE_CHECKING:
    from cdr_plugin.config import Config

EXIT_CRASHED = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
"""128 + SIGPIPE: what a program gets that does not catch it, as in ``cdr snapshots | head -1``."""


def main(argv: Sequence[str] | None = None, load: Callable[[], Config] | None = None) -> int:
    """The exit code of ``cdr`` with these arguments; see docs for their meaning. ``load`` gives the
    configuration where it is not to be read from its file."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:  # without argparse, which takes half of the time
        return _print_version()
    try:
        code = _run(arguments, load)
        sys.stdout.flush()
        return code
    except SystemExit as leaving:  # argparse, after --help
        return leaving.code if isinstance(leaving.code, int) else 0
    except KeyboardInterrupt:
        return _report("interrupted", EXIT_INTERRUPTED, arguments)
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except CdrError as error:
        return _report(str(error), error.exit_code, arguments)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        advice = "" if _verbosity(arguments) > 1 else "; this is a bug, '-vv' shows where"
        return _report(f"unexpected {reason}{advice}", EXIT_CRASHED, arguments)


def _run(arguments: list[str], load: Callable[[], Config] | None) -> int:
    from .parser import parse

    command, options = parse(arguments)
    if command is None:
        return 0
    from .context import Context

    with Context(options, load) as context:
        return command.load().run(context)


def _report(text: str, code: int, arguments: list[str]) -> int:
    """Say it on standard error. The options may be what is wrong, so they are looked for by eye."""
    if _verbosity(arguments) > 1:
        traceback.print_exc()
    one_line = " ".join(text.split())
    if "--json" in arguments:
        # "error" is CDR's promise, "message" what restic calls it.
        line = json.dumps({"message_type": "exit_error", "code": code, "error": one_line, "message": one_line})
    else:
        line = f"cdr: {one_line}"
    try:
        print(line, file=sys.stderr, flush=True)
    except BrokenPipeError:
        pass
    return code


def _verbosity(arguments: list[str]) -> int:
    short = (arg for arg in arguments if arg[:1] == "-" and set(arg[1:]) <= {"q", "v"})
    return sum(arg.count("v") for arg in short) + arguments.count("--verbose")


def _print_version() -> int:
    print(f"cdr {__version__}")
    return 0


def _silence_stdout() -> None:
    """Else the interpreter complains when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
