"""``cdr restore``: bring back files of a version, directly from the repository."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import ExitStack, closing
from pathlib import Path

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_duration
from cdr_plugin.cli.repositories import (
    add_filter_arguments,
    add_repository_arguments,
    choose_version,
    open_repositories,
)
from cdr_plugin.restore import Overwrite, RestoreOptions, restore

HELP = """Restore a version into a folder. VERSION is an ID, the start of one, or 'latest' (with --client and
--path). Existing files are kept unless --overwrite says otherwise."""

def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION")
    parser.add_argument("--target", "-t", type=Path, required=True, metavar="DIR")
    parser.add_argument("--include", "-i", action="append", default=[], metavar="PATTERN")
    parser.add_argument("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    parser.add_argument(
        "--overwrite", type=Overwrite, choices=list(Overwrite), default=Overwrite.NEVER, help="existing files"
    )
    parser.add_argument("--verify", action="store_true", help="read every file back and compare")
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    options = context.options
    with ExitStack() as stack:
        repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
        chosen = choose_version(repositories, options.version, options)
        version = chosen.version
        context.output.detail(f"restoring {version.id[:8]} of {version.snapshot.time} to {options.target}")
        reader = stack.enter_context(chosen.repository.reading())
        summary = restore(
            reader,
            chosen.tree(reader),
            RestoreOptions(
                target=options.target.expanduser(),
                include=options.include,
                exclude=options.exclude,
                overwrite=options.overwrite,
                verify=options.verify,
            ),
            context.output,
        )
    skipped = f", {summary.files_skipped} kept as they were" if summary.files_skipped else ""
    context.output.line(
        f"restored {summary.files_restored} of {summary.total_files} items{skipped}, "
        f"{format_bytes(summary.bytes_restored)} in {format_duration(summary.seconds_elapsed)}, to {options.target}"
    )
    if summary.errors:
        context.output.line(f"{summary.errors} items could not be restored; they are named above")
    context.output.summary({**dataclasses.asdict(summary), "snapshot_id": version.id})
    return 1 if summary.errors else 0
