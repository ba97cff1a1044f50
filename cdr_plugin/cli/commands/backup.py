"""``cdr backup``: make a version into the spool; works offline."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cdr_plugin.archiver import parse_size
from cdr_plugin.archiver.stream import Stream
from cdr_plugin.assembly import client_tier, own_folders
from cdr_plugin.cli.backup_input import add_input_arguments, check_input, listed_paths, stream_of
from cdr_plugin.cli.commands.send import send_client, sending_from_within
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_duration
from cdr_plugin.cli.go_durations import go_duration
from cdr_plugin.cli.work import each
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.commands import commands_around
from cdr_plugin.client.source import archive_options, mapped_sources
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.waiting import wait_for
from cdr_plugin.config import TierConfig
from cdr_plugin.config.schema import SourceConfig
from cdr_plugin.contracts import Event
from cdr_plugin.errors import UserError

HELP = """Make a version of the configured sources, or of PATH, into the spool. Works offline: exit code 0
means captured, not yet stored. 'cdr send' sends it. Options have restic's names and meaning."""

_LOCAL_EVERY_S, _REMOTE_EVERY_S = 1.0, 15.0
"""How often a waiting client looks for receipts: in a folder of this machine, and over a network."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add_input_arguments(parser)
    add("--tag", action="append", default=[], metavar="TAG[,TAG]", help="tags for the version")
    add("--host", default="", help="the host name that the client states (default: this machine's)")
    add("--exclude", "-e", action="append", default=[], metavar="PATTERN")
    add("--iexclude", action="append", default=[], metavar="PATTERN", help="the same, ignoring case")
    add("--exclude-file", action="append", default=[], type=Path, metavar="FILE")
    add("--exclude-caches", action="store_true", help="leave out folders with a CACHEDIR.TAG")
    add("--exclude-if-present", action="append", default=[], metavar="FILE[:HEADER]")
    add("--exclude-larger-than", metavar="SIZE")
    add("--one-file-system", "-x", action="store_true")
    add("--force", "-f", action="store_true", help="read every file, as if there were no earlier version")
    add("--dry-run", "-n", action="store_true", help="tell what would be done, make no version")
    add("--skip-if-unchanged", action="store_true", help="make no version when nothing has changed")
    add("--with-atime", action="store_true")
    add("--ignore-inode", action="store_true", help="compare neither inode nor ctime")
    add("--ignore-ctime", action="store_true", help="do not compare ctime")
    # Whole option strings: a value behind a blank would swallow a path.
    for names, goal, help_ in (
        (("--wait", "--wait=committed"), "committed", "send, and wait for the snapshot in the repository"),
        (("--wait=stored",), "stored", "the same, until the tier above holds all of it"),
    ):
        add(*names, action="store_const", dest="wait", const=goal, help=help_)
    add("--timeout", type=go_duration, metavar="D", help="how long to wait, such as 10m; then exit with 75")


def run(context: Context) -> int:
    options = context.options
    clients = [tier for tier in context.queues if tier.source is not None]
    check_input(options, len(clients))
    if options.timeout is not None and options.wait is None:
        raise UserError("--timeout is for --wait")
    summaries: list[dict[str, Any]] = []
    code = each(context, clients, "back up", lambda tier: _one(context, tier, summaries))
    summary = summaries[0] if len(clients) == 1 else _together(summaries)
    context.output.summary({**summary, "dry_run": options.dry_run})
    return code


def _one(context: Context, config: TierConfig, summaries: list[dict[str, Any]]) -> int:
    assert config.source is not None
    client = client_tier(config, context.plugins)
    source = _with_options(config.source, context.options)
    options = context.options
    before, after = (None, None) if options.dry_run else (source.before, source.after)
    variables = {"CDR_TIER": client.name, "CDR_CONFIG": str(context.config.path)}
    # The lists of paths and the snapshots that are mapped may be made by 'before'.
    with commands_around(before, after, variables, context.output), stream_of(options) as stream:
        run_options = _backup_options(context, client, source, stream)
        result = backup(client, run_options, context.output, sending_from_within(context, config))
    if result.version is not None:
        facts = {"client": client.name, "version": result.version, "tree": result.archive.root_tree.hex()}
        for problem in context.plugins.emit(Event("version-made", client.name, facts)):
            context.output.note(problem)
    _tell(context, client.name, result)
    summary = _summary(client.name, result)
    summaries.append(summary)
    arrived = options.wait is None or result.version is None or _wait(context, config, client, result.version, summary)
    return 75 if not arrived else 3 if result.archive.incomplete else 0


def _backup_options(
    context: Context, client: ClientTier, source: SourceConfig, stream: Stream | None
) -> BackupOptions:
    options = context.options
    return BackupOptions(
        archive=archive_options(
            source,
            zone=client.zone_name,
            paths=() if stream is not None else listed_paths(options, context.output.note),
            own=own_folders(context.config, context.plugins),
            mapped=mapped_sources(source.map, client.state),
            stream=stream,
            with_atime=options.with_atime,
            ignore_inode=options.ignore_inode,
            ignore_ctime=options.ignore_ctime,
        ),
        tags=[tag for tags in options.tag for tag in tags.split(",")],
        excludes=[*source.exclude],
        hostname=options.host,
        time_s=options.time,
        force=options.force,
        skip_if_unchanged=options.skip_if_unchanged,
        dry_run=options.dry_run,
    )


def _wait(context: Context, config: TierConfig, client: ClientTier, version: int, summary: dict[str, Any]) -> bool:
    """Has the version arrived in time? Says how far it is."""
    options = context.options
    assert config.forward is not None
    folders = (context.plugins.transport_plugin(url).local_folder(url) for url in config.forward.to)
    found = wait_for(
        client.state,
        version,
        options.wait,
        send=lambda: send_client(context, config).waiting_for,
        every_s=_LOCAL_EVERY_S if any(folders) else _REMOTE_EVERY_S,
        timeout_s=options.timeout,
        reporter=context.output,
    )
    row = client.state.version(version)
    summary["state"] = found or (row.state if row is not None else "")
    if found is None:
        context.output.note(
            f"client {client.name}: version {version} is not {options.wait} after {format_duration(options.timeout)}; "
            "nothing is wrong so far, 'cdr send' goes on, 'cdr status' tells what it waits for"
        )
    else:
        context.output.line(f"client {client.name}: version {version} is {found}")
    return found is not None


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
_NO_COUNTERS = {*_OF_ONE_CLIENT, "state"}


def _together(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of several clients: counters and durations added up, and each client's own in ``clients``."""
    counters = [key for key in summaries[0] if key not in _NO_COUNTERS] if summaries else []
    sums = {key: sum(one[key] for one in summaries) for key in counters}
    return {**_OF_ONE_CLIENT, **sums, "clients": summaries}
