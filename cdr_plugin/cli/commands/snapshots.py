"""``cdr snapshots``: list the versions in the repository."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import add_filter_arguments, add_repository_arguments
from cdr_plugin.cli.selecting import add_id_arguments, open_all, select
from cdr_plugin.cli.version_tables import version_json, version_table
from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.model.times import parse_time
from cdr_plugin.retention.grouping import HOST_AND_PATHS, GroupBy, GroupKey, parse_group_by

HELP = """List the versions in the repository, oldest first. What CDR itself pins against 'restic prune' is
shown with --pins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_id_arguments(parser, "only these: an ID, the start of one, or 'latest'")
    add_repository_arguments(parser)
    add_filter_arguments(parser)
    parser.add_argument("--latest", type=int, metavar="N", help="only the last N per host and paths")
    parser.add_argument("--group-by", "-g", default="", metavar="HOST,PATHS,TAGS", help="a table for each group")
    parser.add_argument("--compact", action="store_true", help="one line for each, without paths")
    parser.add_argument("--pins", action="store_true", help="show pins too")


def run(context: Context) -> int:
    options = context.options
    by = parse_group_by(options.group_by)
    if options.latest is not None and options.latest < 1:
        raise UserError(f"--latest {options.latest}: give a number from 1 up")
    with ExitStack() as stack:
        opened, code = open_all(context, stack, "snapshots")
        selections = select(opened, options, pins=options.pins)
    versions = [version for selection in selections for version in selection.versions]
    versions.sort(key=lambda version: parse_time(version.snapshot.time))
    if by == GroupBy():
        chosen = _latest(versions, options.latest)
        context.output.document([version_json(version) for version in chosen])
        _show(context, chosen)
    else:
        _show_groups(context, [(key, _latest(group, options.latest)) for key, group in by.groups(versions)])
    return code


def _show(context: Context, versions: Sequence[StoredVersion]) -> None:
    context.output.line(version_table(versions, compact=context.options.compact))
    context.output.line(f"{len(versions)} versions")


def _show_groups(context: Context, groups: Sequence[tuple[GroupKey, list[StoredVersion]]]) -> None:
    context.output.document(
        [{"group_key": key.as_json(), "snapshots": [version_json(v) for v in group]} for key, group in groups]
    )
    for key, group in groups:
        context.output.line(f"snapshots for {str(key) or 'no tags'}:")
        _show(context, group)
        context.output.line()


def _latest(versions: list[StoredVersion], count: int | None) -> list[StoredVersion]:
    """The last ``count`` of each host with the same paths."""
    if count is None:
        return versions
    chosen = {version.id for _, group in HOST_AND_PATHS.groups(versions) for version in group[-count:]}
    return [version for version in versions if version.id in chosen]
