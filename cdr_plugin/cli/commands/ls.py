"""``cdr ls``: list what is in a version."""

from __future__ import annotations

import argparse
from contextlib import ExitStack, closing

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import (
    add_filter_arguments,
    add_repository_arguments,
    choose_version,
    open_repositories,
)
from cdr_plugin.look.describe import listed_object, long_line, snapshot_object
from cdr_plugin.look.listing import listed

HELP = """List what is in a version. VERSION is an ID, the start of one, or 'latest' (with --client, --path
and --tag); VERSION:/folder begins at a folder, and paths are then relative to it. With DIR, absolute
folders inside the version, only these and their entries are listed; with --recursive also what is
below."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION[:FOLDER]")
    parser.add_argument("folders", metavar="DIR", nargs="*")
    parser.add_argument("--long", "-l", action="store_true", help="show mode, owner, size and time")
    parser.add_argument("--recursive", action="store_true", help="list what is below each DIR, too")
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    options, output = context.options, context.output
    with ExitStack() as stack:
        repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
        chosen = choose_version(repositories, options.version, options)
        reader = stack.enter_context(chosen.repository.reading())
        version = chosen.version
        found = listed(
            reader,
            chosen.tree(reader),
            lambda path, error: output.error(path, "ls", error),
            options.folders,
            recursive=options.recursive,
        )
        if output.as_json:
            output.document(snapshot_object(version))
            output.documents(listed_object(path, node) for path, node in found)
        else:
            if not output.quiet:
                paths, filters = " ".join(version.snapshot.paths), " ".join(options.folders)
                where = f" filtered by [{filters}]" if filters else ""
                output.line(f"snapshot {version.id[:8]} of [{paths}] at {version.snapshot.time}{where}:")
            output.lines(long_line(path, node) if options.long else path for path, node in found)
    return 1 if output.errors else 0
