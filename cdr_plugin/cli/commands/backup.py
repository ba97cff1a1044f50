"""``cdr backup``: make a version into the spool; works offline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdr_plugin.archiver import parse_size
from cdr_plugin.assembly import client_tier, own_folders
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_duration
from cdr_plugin.cli.work import each
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.source import archive_options, commands_around
from cdr_plugin.config import TierConfig
from cdr_plugin.config.schema import SourceConfig
from cdr_plugin.contracts import Event
from cdr_plugin.errors import UserError

HELP = """Make a version of the configured sources, or of PATH, into the spool. Works offline: exit code 0
means captured, not yet stored. 'cdr send' sends it. Options have restic's names and meaning."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="*", metavar="PATH", help="instead of the configured sources")
    add("--tag", action="append", default=[], metavar="TAG[,TAG]", help="tags for the version")
    add("--host", default="", help="the host name that the client states (default: this machine's)")
    add("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    add("--iexclude", action="append", default=[], metavar="PATTERN", help="the same, ignoring case")
    add("--exclude-file", action="append", default=[], type=Path, metavar="FILE")
    add("--exclude-caches", action="store_true", help="leave out folders with a CACHEDIR.TAG")
    add("--exclude-if-present", action="append", default=[], metavar="FILE[:HEADER]")
    add("--exclude-larger-than", metavar="SIZE")
    add("--one-file-system", "-x", action="store_true")
    add("--files-from", action="append", default=[], type=Path, metavar="FILE", help="paths, one a line")
    add("--force", "-f", action="store_true", help="read every file, as if there were no earlier version")
    add("--dry-run", "-n", action="store_true", help="tell what would be done, make no version")
    add("--skip-if-unchanged", action="store_true", help="make no version when nothing has changed")
    add("--with-atime", action="store_true")
    add("--ignore-inode", action="store_true", help="compare neither inode nor ctime")
    add("--ignore-ctime", action="store_true", help="do not compare ctime")


def run(context: Context) -> int:
    clients = [tier for tier in context.tiers if tier.source is not None]
    summaries: list[dict[str, Any]] = []
    code = each(context, clients, "back up", lambda tier: _one(context, tier, summaries))
    summary = summaries[0] if len(clients) == 1 else _together(summaries)
    context.output.summary({**summary, "dry_run": context.options.dry_run})
    return code


def _one(context: Context, config: TierConfig, summaries: list[dict[str, Any]]) -> int:
    assert config.source is not None
    client = client_tier(config, context.plugins)
    source = _with_options(config.source, context.options)
    options = context.options
    excludes = [*source.exclude]
    run_options = BackupOptions(
        archive=archive_options(
            source,
            zone=client.zone_name,
            paths=[*options.paths, *_listed(options.files_from)],
            own=own_folders(context.config, context.plugins),
            with_atime=options.with_atime,
            ignore_inode=options.ignore_inode,
            ignore_ctime=options.ignore_ctime,
        ),
        tags=[tag for tags in options.tag for tag in tags.split(",")],
        excludes=excludes,
        hostname=options.host,
        force=options.force,
        skip_if_unchanged=options.skip_if_unchanged,
        dry_run=options.dry_run,
    )
    before, after = (None, None) if options.dry_run else (source.before, source.after)
    with commands_around(before, after, context.output):
        result = backup(client, run_options, context.output)
    if result.version is not None:
        facts = {"client": client.name, "version": result.version, "tree": result.archive.root_tree.hex()}
        for problem in context.plugins.emit(Event("version-made", client.name, facts)):
            context.output.note(problem)
    _tell(context, client.name, result)
    summaries.append(_summary(client.name, result))
    return 3 if result.archive.incomplete else 0


def _with_options(source: SourceConfig, options: argparse.Namespace) -> SourceConfig:
    """The configured source and what the command line adds to it."""
    larger_than = parse_size(options.exclude_larger_than) if options.exclude_larger_than else None
    return replace(
        source,
        exclude=(*source.exclude, *options.exclude),
        iexclude=(*source.iexclude, *options.iexclude),
        exclude_file=(*source.exclude_file, *options.exclude_file),
        exclude_caches=source.exclude_caches or options.exclude_caches,
        exclude_if_present=(*source.exclude_if_present, *options.exclude_if_present),
        exclude_larger_than=larger_than or source.exclude_larger_than,
        one_file_system=source.one_file_system or options.one_file_system,
    )


def _listed(files: list[Path]) -> list[str]:
    """Paths named in files, one a line; blank lines and lines that start with # are skipped."""
    found: list[str] = []
    for file in files:
        try:
            lines = file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        except OSError as error:
            raise UserError(f"--files-from {file}: {error.strerror}") from None
        found += [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if files and not found:
        raise UserError("--files-from: no path in it; nothing to back up")
    return found


def _tell(context: Context, name: str, result: BackupResult) -> None:
    counts, spool = result.archive.counts, result.spool
    if result.version is None:
        context.output.line(f"client {name}: no version made")
    else:
        context.output.line(f"client {name}: version {result.version} captured (not yet stored; 'cdr send' sends it)")
    context.output.line(
        f"files {counts.files_new} new, {counts.files_changed} changed, {counts.files_unmodified} unmodified; "
        f"folders {counts.dirs_new} new, {counts.dirs_changed} changed, {counts.dirs_unmodified} unmodified"
    )
    context.output.line(
        f"processed {format_bytes(counts.total_bytes_processed)} in {format_duration(result.duration_s)}, "
        f"new {format_bytes(spool.data_added)}, to travel {format_bytes(spool.spooled_bytes)}"
    )
    if result.archive.incomplete:
        context.output.line(f"{result.archive.errors} items could not be read; they are named above")


def _summary(name: str, result: BackupResult) -> dict[str, Any]:
    counts, spool = result.archive.counts, result.spool
    return {
        "client": name,
        "version": result.version,
        "tree": result.archive.root_tree.hex(),
        "files_new": counts.files_new,
        "files_changed": counts.files_changed,
        "files_unmodified": counts.files_unmodified,
        "dirs_new": counts.dirs_new,
        "dirs_changed": counts.dirs_changed,
        "dirs_unmodified": counts.dirs_unmodified,
        "total_files_processed": counts.total_files_processed,
        "total_bytes_processed": counts.total_bytes_processed,
        "data_blobs": spool.data_blobs,
        "tree_blobs": spool.tree_blobs,
        "data_added": spool.data_added,
        "spooled_bytes": spool.spooled_bytes,
        "total_duration": result.duration_s,
    }


_OF_ONE_CLIENT: dict[str, Any] = {"client": None, "version": None, "tree": None}


def _together(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several clients: counters and durations added up, and each client's own in ``clients``."""
    counters = [key for key in summaries[0] if key not in _OF_ONE_CLIENT] if summaries else []
    sums = {key: sum(one[key] for one in summaries) for key in counters}
    return {**_OF_ONE_CLIENT, **sums, "clients": summaries}
