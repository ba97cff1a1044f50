"""``cdr stats``: count and measure what versions hold."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.repositories import add_filter_arguments, add_repository_arguments
from cdr_plugin.cli.selecting import Selection, add_id_arguments, open_all, select
from cdr_plugin.cli.work import every
from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.measure.raw_data import raw_data
from cdr_plugin.measure.restore_size import restore_size
from cdr_plugin.measure.totals import Totals
from cdr_plugin.measure.unique_files import blobs_per_file, files_by_contents
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.trees import blob_id_of

_MODES: dict[str, Callable[[RepositoryReader, Sequence[BlobId]], Totals]] = {
    "restore-size": restore_size,
    "files-by-contents": files_by_contents,
    "blobs-per-file": blobs_per_file,
    "raw-data": raw_data,
}

HELP = """Count and measure what the versions hold that are named, or all that the filters leave. Modes:

- restore-size: what restoring each of them would write, added up
- files-by-contents: files, those with the same contents counted once
- blobs-per-file: parts of files, counted once for each file
- raw-data: what they take in the repository, and how well it is compressed"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_id_arguments(parser)
    mode_help = "what to count (default: restore-size)"
    parser.add_argument("--mode", choices=tuple(_MODES), default="restore-size", help=mode_help)
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    totals = Totals()
    with ExitStack() as stack:
        opened, code = open_all(context, stack, "stats")
        selections = select(opened, context.options)
        jobs = [(s.opened.repository.location, partial(_measure, context, s, totals)) for s in selections]
        code = (every(context, "stats", jobs) if jobs else 0) or code
    _show(context, totals)
    context.output.summary(totals.as_json())
    return code


def _measure(context: Context, selection: Selection, totals: Totals) -> int:
    roots = [blob_id_of(version.snapshot.tree) for version in selection.versions]
    with selection.opened.repository.reading() as reader:
        found = _MODES[context.options.mode](reader, roots)
    totals += found
    return 0


def _show(context: Context, totals: Totals) -> None:
    fields = totals.as_json()
    line = context.output.line
    line(f"stats in {context.options.mode} mode:")
    line(f"versions:            {totals.snapshots_count}")
    if totals.total_blob_count:
        line(f"blobs:               {totals.total_blob_count}")
    if totals.total_file_count:
        line(f"files:               {totals.total_file_count}")
    if "compression_ratio" in fields:
        line(f"uncompressed size:   {format_bytes(totals.total_uncompressed_size)}")
        line(f"compressed so far:   {fields['compression_progress']:.2f}%")
        line(f"compression ratio:   {fields['compression_ratio']:.2f}x")
        line(f"space saving:        {fields.get('compression_space_saving', 0):.2f}%")
    line(f"size:                {format_bytes(totals.total_size)}")
