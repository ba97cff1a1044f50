"""``cdr unlock``: remove locks that nobody holds any more."""

from __future__ import annotations

import argparse
from contextlib import closing

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import add_repository_arguments, open_repositories

HELP = """Remove stale locks: those older than 30 minutes, and those whose process was one of this machine and is gone.
--remove-all removes every lock, also of processes that are at work: make sure first that there are none."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_repository_arguments(parser)
    parser.add_argument("--remove-all", action="store_true", help="remove all locks, even those in use")


def run(context: Context) -> int:
    removed = 0
    for repository in open_repositories(context):
        with closing(repository):
            count = repository.care().unlock(all_locks=context.options.remove_all)
            context.output.line(f"removed {count} locks of {repository.location}")
            removed += count
    context.output.summary({"locks_removed": removed})
    return 0
