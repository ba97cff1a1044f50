"""``cdr restore``: bring back files of a version, from the repository or from what a client has itself."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.archiver import read_exclude_file
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_duration
from cdr_plugin.cli.repositories import (
    SHORTEST_PREFIX,
    Chosen,
    add_filter_arguments,
    add_repository_arguments,
    choose_version,
    folder_tree,
    open_repositories,
)
from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.restore import Overwrite, RestoreOptions, RestoreSummary, restore

if TYPE_CHECKING:
    from cdr_plugin.client.state import VersionRow
    from cdr_plugin.client.tier import ClientTier

HELP = """Restore a version into a folder. VERSION is an ID, the start of one, or 'latest' (with --client and
--path), with :/folder behind it for a folder inside. Existing files are kept unless --overwrite says
otherwise; --delete makes the folders hold just what the version does, and then implies --overwrite if-changed.
--local reads what a client still has itself, without its repository: its spool, its baseline and the files that
have not changed. VERSION is then also the number of one of its versions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("version", metavar="VERSION[:FOLDER]")
    add("--target", "-t", type=Path, required=True, metavar="DIR")
    add("--include", "-i", action="append", default=[], metavar="PATTERN")
    add("--iinclude", action="append", default=[], metavar="PATTERN", help="the same, ignoring case")
    add("--include-file", action="append", default=[], type=Path, metavar="FILE", help="a pattern per line")
    add("--iinclude-file", action="append", default=[], type=Path, metavar="FILE")
    add("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    add("--iexclude", action="append", default=[], metavar="PATTERN", help="the same, ignoring case")
    add("--exclude-file", action="append", default=[], type=Path, metavar="FILE", help="a pattern per line")
    add("--iexclude-file", action="append", default=[], type=Path, metavar="FILE")
    add("--overwrite", type=Overwrite, choices=list(Overwrite), help="existing files (default: never)")
    add("--delete", action="store_true", help="remove what the version does not hold; see --dry-run -v first")
    add("--local", action="store_true", help="from what this client has itself, without a repository")
    add("--verify", action="store_true", help="read every file back and compare")
    add("--sparse", action=argparse.BooleanOptionalAction, default=True, help="leave holes for zeros (default: yes)")
    add("--dry-run", action="store_true", help="change nothing; with -v say what would change, with -vv what not")
    add("--ownership-by-name", action="store_true", help="owners by name where known, not by number")
    add("--include-xattr", action="append", default=[], metavar="PATTERN", help="extended attributes to restore")
    add("--exclude-xattr", action="append", default=[], metavar="PATTERN", help="extended attributes to leave out")
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    with ExitStack() as stack:
        wanted = _restore_options(context)
        chosen = _choose_local(context, stack) if context.options.local else _choose(context, stack)
        context.output.detail(f"restoring {chosen.shown} of {chosen.time} to {context.options.target}")
        wanted = dataclasses.replace(wanted, protect=chosen.protect)
        summary = restore(chosen.reader, chosen.tree, wanted, context.output)
    _report(context, summary, chosen.id)
    return 1 if summary.errors else 0


@dataclasses.dataclass(frozen=True, slots=True)
class _Chosen:
    """What is restored. ``id``: that of the snapshot, empty before there is one; ``shown`` to people."""

    reader: RepositoryReader
    tree: BlobId
    id: str
    shown: str
    time: str
    protect: Sequence[Path] = ()


def _choose(context: Context, stack: ExitStack) -> _Chosen:
    """From the repositories."""
    options = context.options
    repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
    chosen = choose_version(repositories, options.version, options)
    version = chosen.version
    reader = stack.enter_context(chosen.repository.reading())
    protect = _protected(context, chosen)
    return _Chosen(reader, chosen.tree(reader), version.id, version.id[:8], version.snapshot.time, protect)


def _choose_local(context: Context, stack: ExitStack) -> _Chosen:
    """From what the one client that is chosen has itself."""
    from cdr_plugin.assembly import client_tier
    from cdr_plugin.client.local_reader import LocalReader

    clients = [tier for tier in context.queues if tier.source is not None]
    if len(clients) != 1:
        raise UserError(f"choose one client with -T (there are: {', '.join(tier.name for tier in clients) or 'none'})")
    client = client_tier(clients[0], context.plugins)
    stack.callback(client.state.close)
    name, _, folder = context.options.version.partition(":")
    row = _local_version(client, name)
    reader = stack.enter_context(LocalReader(client))
    tree = folder_tree(reader, BlobId(row.tree), folder, str(row.number))
    return _Chosen(reader, tree, row.snapshot, f"version {row.number}", row.time, [client.state_folder, client.spool])


def _local_version(client: ClientTier, name: str) -> VersionRow:
    """By number, by the start of its ID, or the latest."""
    rows = [row for row in client.state.versions() if row.tree]
    found = rows[-1:] if name == "latest" else [row for row in rows if str(row.number) == name]
    found = found or [row for row in rows if len(name) >= SHORTEST_PREFIX and row.snapshot.startswith(name)]
    if len(found) != 1:
        raise UserError(f"{name!r}: client {client.name} has no such version here; see 'cdr queue'")
    return found[0]


def _restore_options(context: Context) -> RestoreOptions:
    """What the options ask for; UserError for pattern files that cannot be read."""
    options = context.options
    return RestoreOptions(
        target=options.target.expanduser(),
        include=[*options.include, *_read(options.include_file)],
        exclude=[*options.exclude, *_read(options.exclude_file)],
        include_ignoring_case=[*options.iinclude, *_read(options.iinclude_file)],
        exclude_ignoring_case=[*options.iexclude, *_read(options.iexclude_file)],
        overwrite=options.overwrite or (Overwrite.IF_CHANGED if options.delete else Overwrite.NEVER),
        delete=options.delete,
        verify=options.verify,
        sparse=options.sparse,
        dry_run=options.dry_run,
        ownership_by_name=options.ownership_by_name,
        include_attributes=options.include_xattr,
        exclude_attributes=options.exclude_xattr,
        report_items=options.verbose >= (1 if options.dry_run else 2),
    )


def _read(files: Sequence[Path]) -> list[str]:
    return [pattern for file in files for pattern in read_exclude_file(file.expanduser())]


def _protected(context: Context, chosen: Chosen) -> list[Path]:
    """The repository, where it is a folder of this machine."""
    found = [info for info in context.plugins.infos() if info.kind == "repository format"]
    names = [info.name for info in found if info.enabled and not info.error]
    folders = [context.plugins.repository_format(name).local_folder(chosen.repository.location) for name in names]
    return [folder for folder in folders if folder is not None]


def _report(context: Context, summary: RestoreSummary, version: str) -> None:
    target, dry = context.options.target, context.options.dry_run
    parts = [f"{'would restore' if dry else 'restored'} {summary.files_restored} of {summary.total_files} items"]
    if summary.files_skipped:
        parts.append(f"{summary.files_skipped} kept as they were")
    if summary.files_deleted:
        parts.append(f"{summary.files_deleted} {'to be deleted' if dry else 'deleted'}")
    parts.append(f"{format_bytes(summary.bytes_restored)} in {format_duration(summary.seconds_elapsed)}")
    context.output.line(f"{', '.join(parts)}, to {target}")
    if summary.errors:
        context.output.line(f"{summary.errors} items could not be restored; they are named above")
    fields = {**dataclasses.asdict(summary), "seconds_elapsed": int(summary.seconds_elapsed)}
    context.output.summary({**fields, "snapshot_id": version})
