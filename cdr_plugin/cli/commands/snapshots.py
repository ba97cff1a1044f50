"""``cdr snapshots``: list the versions in the repository."""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

import msgspec

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.cli.repositories import add_filter_arguments, add_repository_arguments, matches, open_repositories
from cdr_plugin.contracts import StoredVersion
from cdr_plugin.model.times import parse_time
from cdr_plugin.top.pins import is_pin

HELP = """List the versions in the repository, oldest first. What CDR itself pins against 'restic prune' is
shown with --pins."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_repository_arguments(parser)
    add_filter_arguments(parser)
    parser.add_argument("--latest", type=int, metavar="N", help="only the last N per host and paths")
    parser.add_argument("--pins", action="store_true", help="show pins too")


def run(context: Context) -> int:
    found: list[StoredVersion] = []
    for repository in open_repositories(context):
        with closing(repository):
            found += repository.versions()
    options = context.options
    chosen = [v for v in found if matches(v, options) and (options.pins or not is_pin(v.snapshot))]
    chosen.sort(key=lambda v: parse_time(v.snapshot.time))
    if options.latest is not None:
        chosen = _latest(chosen, options.latest)
    context.output.document([as_json(version) for version in chosen])
    rows = [
        (v.id[:8], v.snapshot.time[:19].replace("T", " "), v.snapshot.hostname, _tags(v), "\n".join(v.snapshot.paths))
        for v in chosen
    ]
    context.output.line(format_table(("id", "time", "host", "tags", "paths"), rows))
    context.output.line(f"{len(chosen)} versions")
    return 0


def as_json(version: StoredVersion) -> dict[str, Any]:
    """A snapshot as restic prints it."""
    fields: dict[str, Any] = msgspec.to_builtins(version.snapshot)
    return {**fields, "id": version.id, "short_id": version.id[:8]}


def _tags(version: StoredVersion) -> str:
    """The user's tags; ours say nothing to people."""
    return ",".join(tag for tag in version.snapshot.tags if not tag.startswith("cdr-version:"))


def _latest(versions: list[StoredVersion], count: int) -> list[StoredVersion]:
    kept: dict[tuple[str, tuple[str, ...]], list[StoredVersion]] = {}
    for version in versions:
        kept.setdefault((version.snapshot.hostname, tuple(version.snapshot.paths)), []).append(version)
    chosen = {version.id for group in kept.values() for version in group[-count:]}
    return [version for version in versions if version.id in chosen]
