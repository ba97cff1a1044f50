"""What ``cdr backup`` is to back up instead of the configured sources: paths, lists of paths, a stream."""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from cdr_plugin.archiver.files_from import listed_lines, listed_patterns, listed_raw
from cdr_plugin.archiver.stream import Stream
from cdr_plugin.client.commands import command_output, standard_input
from cdr_plugin.errors import UserError

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d{1,2}:\d\d:\d\d").fullmatch


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="instead of the configured sources")
    add("--files-from", action="append", default=[], metavar="FILE", help="paths, one a line; '*' etc. are expanded")
    add("--files-from-verbatim", action="append", default=[], metavar="FILE", help="paths, one a line, as they stand")
    add("--files-from-raw", action="append", default=[], metavar="FILE", help="paths, each ended by a zero byte")
    add("--stdin", action="store_true", help="back up standard input as one file")
    add("--stdin-filename", default="stdin", metavar="NAME", help="the name of that file (default: stdin)")
    add("--stdin-from-command", action="store_true", help="back up the output of a command: -- CMD ARGS")
    add("--time", type=_time, metavar="TIME", help="the version's time: 'YYYY-MM-DD HH:MM:SS' (local), or 'now'")


def _time(text: str) -> float | None:
    """Seconds since 1970; None is now."""
    if text == "now":
        return None
    try:
        if _TIME(text):
            return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").timestamp()
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"expected 'YYYY-MM-DD HH:MM:SS' or 'now', not {text!r}")


def check_input(options: argparse.Namespace, clients: int) -> None:
    """UserError for what does not go together."""
    lists = [*options.files_from, *options.files_from_verbatim, *options.files_from_raw]
    streams = [name for name in ("stdin", "stdin_from_command") if getattr(options, name)]
    if len(streams) > 1:
        raise UserError("--stdin and --stdin-from-command exclude each other")
    if streams and lists:
        raise UserError(f"--{streams[0].replace('_', '-')} cannot be used together with lists of paths")
    if options.stdin and options.paths:
        raise UserError("--stdin backs up standard input alone; leave out the paths")
    if options.stdin_from_command and not options.paths:
        raise UserError("--stdin-from-command: name the command behind '--': -- CMD ARGS")
    if clients > 1 and (streams or "-" in lists):
        raise UserError("standard input can be read for one client only; choose one with -T")
    if lists.count("-") > 1:
        raise UserError("standard input can be read as one list only")


def listed_paths(options: argparse.Namespace, warn: Callable[[str], None]) -> list[str]:
    """The paths of the lists, then those of the command line; empty for the configured ones. UserError."""
    found = [path for file in options.files_from for path in listed_patterns(file, warn)]
    found += [path for file in options.files_from_verbatim for path in listed_lines(file)]
    found += [path for file in options.files_from_raw for path in listed_raw(file)]
    found += options.paths
    if not found and (options.files_from or options.files_from_verbatim or options.files_from_raw):
        raise UserError("there is no path in the lists; nothing to back up")
    return found


@contextmanager
def stream_of(options: argparse.Namespace) -> Iterator[Stream | None]:
    """The stream that is asked for, if any; a command runs while the block does. UserError."""
    if options.stdin_from_command:
        opened = command_output(options.paths)
    elif options.stdin:
        opened = standard_input()
    else:
        yield None
        return
    mtime_ns = time.time_ns() if options.time is None else int(options.time) * 10**9
    with opened as (descriptor, finish):
        yield Stream(options.stdin_filename, descriptor, mtime_ns, finish)
