"""``cdr prune``: free the space of what no version reaches."""

from __future__ import annotations

import argparse
import dataclasses
from contextlib import closing

from cdr_plugin.care import PruneOptions, PruneReport
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.repositories import add_repository_arguments, repositories_to_open
from cdr_plugin.errors import CdrError
from cdr_plugin.model.quantities import parse_size

HELP = """Free the space of what no version in the repository reaches. Packs without anything needed are removed;
of others, what is needed is copied to new packs until little enough stays unused. Takes the exclusive lock: nothing
else may use the repository meanwhile."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", "-n", action="store_true", help="change nothing, only say what would be done")
    add_prune_arguments(parser)
    add_repository_arguments(parser, writes=True)


def add_prune_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that every command which prunes takes."""
    parser.add_argument(
        "--max-unused", metavar="LIMIT", default="5%", help="what may stay unused: 5%%, 500M or 'unlimited'"
    )
    parser.add_argument("--max-repack-size", type=_size, metavar="SIZE", help="copy at most this much")
    parser.add_argument("--repack-cacheable-only", action="store_true", help="repack only packs of trees")
    parser.add_argument("--repack-small", action="store_true", help="repack packs below 80%% of the pack size")
    parser.add_argument("--repack-smaller-than", type=_size, metavar="SIZE", help="repack packs below this size")
    parser.add_argument("--repack-uncompressed", action="store_true", help="repack what is not compressed yet")


def prune_options(options: argparse.Namespace) -> PruneOptions:
    """What ``add_prune_arguments`` and ``--dry-run`` were given."""
    return PruneOptions(
        max_unused=options.max_unused,
        max_repack_size=options.max_repack_size,
        repack_cacheable_only=options.repack_cacheable_only,
        repack_small=options.repack_small,
        repack_smaller_than=options.repack_smaller_than,
        repack_uncompressed=options.repack_uncompressed,
        dry_run=options.dry_run,
    )


def run(context: Context) -> int:
    options = prune_options(context.options)
    meant = list(repositories_to_open(context))
    reports = []
    code = 0
    for location, open_repository in meant:
        try:
            with closing(open_repository()) as repository:
                report = repository.care().prune(options)
        except CdrError as error:
            if len(meant) == 1:
                raise
            context.output.error(location, "prune", error)
            code = error.exit_code
            continue
        reports.append(report)
        if len(meant) > 1:
            context.output.line(f"repository {location}")
        context.output.line(describe_prune(report, dry_run=options.dry_run))
    context.output.summary({**dataclasses.asdict(sum_reports(reports)), "dry_run": options.dry_run})
    return code


def sum_reports(reports: list[PruneReport]) -> PruneReport:
    """Of several repositories."""
    names = [field.name for field in dataclasses.fields(PruneReport)]
    return PruneReport(**{name: sum(getattr(report, name) for report in reports) for name in names})


def describe_prune(report: PruneReport, *, dry_run: bool) -> str:
    """restic's table, several lines."""
    total_bytes = report.bytes_used + report.bytes_duplicate + report.bytes_unused + report.bytes_unreferenced
    total_blobs = report.blobs_used + report.blobs_duplicate + report.blobs_unused
    left_bytes = total_bytes - report.bytes_removed
    would = "would be " if dry_run else ""
    rows = [
        ("used", report.blobs_used, report.bytes_used),
        ("duplicates", report.blobs_duplicate, report.bytes_duplicate),
        ("unused", report.blobs_unused, report.bytes_unused),
        ("unreferenced", None, report.bytes_unreferenced),
        ("total", total_blobs, total_bytes),
        (f"{would}repacked", report.blobs_repacked, report.bytes_repacked),
        (f"{would}removed", report.blobs_removed, report.bytes_removed),
        ("remaining", report.blobs_left, left_bytes),
    ]
    lines = [f"{name + ':':20}{_blobs(blobs)}{format_bytes(size)}" for name, blobs, size in rows]
    share = 100 * report.bytes_left_unused / left_bytes if left_bytes else 0
    lines.append(f"unused size after prune: {format_bytes(report.bytes_left_unused)} ({share:.2f}% of remaining size)")
    lines.append(
        f"packs: {report.packs_kept} kept, {report.packs_repacked} {would}repacked, "
        f"{report.packs_removed + report.packs_unreferenced} {would}removed"
    )
    return "\n".join(lines)


def _blobs(count: int | None) -> str:
    return " " * 18 if count is None else f"{count:10} blobs / "


def _size(text: str) -> int:
    try:
        return parse_size(text) if text != "0" else 0
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
