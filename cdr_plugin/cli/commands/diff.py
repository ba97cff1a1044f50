"""``cdr diff``: show what differs between two versions."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing
from dataclasses import asdict

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.repositories import (
    add_filter_arguments,
    add_repository_arguments,
    choose_version,
    open_repositories,
)
from cdr_plugin.errors import UserError
from cdr_plugin.look.compare import Comparison, Statistics
from cdr_plugin.look.walk import shown

HELP = """Show what differs from one version to another: '+' added, '-' removed, 'M' content changed, 'T' type
changed, and with --metadata 'U' for mode, owner, times and the like. VERSION is an ID, the start of one,
or 'latest'; VERSION:/folder compares that folder only. Folders that are equal in both are not read,
except to tell which data the rest shares with them."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("before", metavar="VERSION[:FOLDER]")
    parser.add_argument("after", metavar="VERSION[:FOLDER]")
    parser.add_argument("--metadata", action="store_true", help="show changes of metadata, too")
    parser.add_argument(
        "--fast", action="store_true", help="do not look for data that is new or gone here but kept in equal folders"
    )
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    options, output = context.options, context.output
    with ExitStack() as stack:
        repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
        before = choose_version(repositories, options.before, options)
        after = choose_version(repositories, options.after, options)
        if before.repository is not after.repository:
            raise UserError("the two versions are in different repositories; only versions of one can be compared")
        reader = stack.enter_context(before.repository.reading())
        comparison = Comparison(
            reader,
            before.tree(reader),
            after.tree(reader),
            lambda path, error: output.error(path, "diff", error),
            metadata=options.metadata,
        )
        ids = before.version.id, after.version.id
        if output.as_json:
            output.documents(
                {"message_type": "change", "path": shown(change.path), "modifier": change.modifier}
                for change in comparison.changes()
            )
        else:
            output.line(f"comparing version {ids[0][:8]} to {ids[1][:8]}:\n")
            output.lines(f"{change.modifier:<5}{change.path}" for change in comparison.changes())
        comparison.count_blobs(look_into_unchanged=not options.fast)
        statistics = comparison.statistics
        fields = {"source_snapshot": ids[0], "target_snapshot": ids[1], **asdict(statistics)}
        output.document({"message_type": "statistics", **fields})
        output.line(_in_words(statistics))
    return 1 if output.errors else 0


def _in_words(statistics: Statistics) -> str:
    added, removed = statistics.added, statistics.removed
    return (
        f"\nFiles:       {added.files:5} new, {removed.files:5} removed, {statistics.changed_files:5} changed"
        f"\nDirs:        {added.dirs:5} new, {removed.dirs:5} removed"
        f"\nOthers:      {added.others:5} new, {removed.others:5} removed"
        f"\nData Blobs:  {added.data_blobs:5} new, {removed.data_blobs:5} removed"
        f"\nTree Blobs:  {added.tree_blobs:5} new, {removed.tree_blobs:5} removed"
        f"\n  Added:   {format_bytes(added.bytes)}"
        f"\n  Removed: {format_bytes(removed.bytes)}"
    )
