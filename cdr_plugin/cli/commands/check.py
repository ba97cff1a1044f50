"""``cdr check``: look for damage in the repository."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

from cdr_plugin.care import CheckOptions, CheckReport
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.output import Output
from cdr_plugin.cli.repositories import add_repository_arguments, repositories_to_open
from cdr_plugin.cli.scheduled import add_schedule_arguments, scheduled_check
from cdr_plugin.cli.work import every
from cdr_plugin.contracts import Repository
from cdr_plugin.errors import UserError

HELP = """Look for damage in the repository: indexes, packs, snapshots and trees must be there and fit together. With
--read-data every pack is read and every blob verified. Nothing is changed. Ends with exit code 1 when
there are errors; what is merely waste is a hint.

With --scheduled the check that the configuration asks for (store.check) is made: it reads the part of the packs
whose turn it is and restores samples, and marks versions as verified."""

_SUBSET_HELP = "read only some packs: N/T (part N of T), a percentage like 2.5%%, or a size like 500M, both at random"
_SHOWN_BLOBS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_repository_arguments(parser)
    parser.add_argument("--read-data", action="store_true", help="read all packs and verify every blob")
    parser.add_argument("--read-data-subset", default="", metavar="SUBSET", help=_SUBSET_HELP)
    add_schedule_arguments(parser, "store.check")
    parser.add_argument("--check-unused", action="store_true", help="blobs that no version reaches are errors")


def run(context: Context) -> int:
    given = context.options
    if given.scheduled:
        return scheduled_check(context)
    if given.read_data and given.read_data_subset:
        raise UserError("--read-data and --read-data-subset exclude each other; give one of them")
    options = CheckOptions(given.read_data, given.read_data_subset, given.check_unused)
    reports: list[CheckReport] = []
    jobs = [
        (location, partial(_check, open_, options, context.output, reports))
        for location, open_ in repositories_to_open(context)
    ]
    try:
        return every(context, "check", jobs)
    finally:
        if reports:
            _summarize(reports, context.output)


def _check(open_: Callable[[], Repository], options: CheckOptions, output: Output, reports: list[CheckReport]) -> int:
    with closing(open_()) as repository:
        report = repository.care().check(options)
        reports.append(report)
        for line in _describe(repository.location, report):
            output.line(line)
        return 1 if report.errors else 0


def _describe(location: str, report: CheckReport) -> Iterator[str]:
    """For people: what was looked at, what is wrong, what to do."""
    yield (
        f"repository {location}: looked at {report.versions} versions, {report.trees} trees, "
        f"{report.blobs} blobs in {report.packs} packs"
    )
    if report.packs_read:
        yield f"read and verified {report.packs_read} packs with {format_bytes(report.bytes_read)}"
    if not report.errors:
        yield "no errors were found" + (f", {len(report.hints)} hints" if report.hints else "")
    else:
        yield f"{len(report.errors)} errors were found:"
        for finding in report.errors:
            yield f"  {finding.text}"
            yield from (f"    damaged: {blob}" for blob in finding.blobs[:_SHOWN_BLOBS])
            if len(finding.blobs) > _SHOWN_BLOBS:
                yield f"    and {len(finding.blobs) - _SHOWN_BLOBS} more blobs"
            yield from (f"    needed by: {file}" for file in finding.files)
    yield from _advise(report)


def _advise(report: CheckReport) -> Iterator[str]:
    if report.suggest_repair_index:
        yield "next: 'cdr repair index' makes the index say what the packs hold"
    if report.broken_packs:
        packs = " ".join(report.broken_packs[:_SHOWN_BLOBS])
        yield f"next: 'cdr repair packs {packs}' saves what can be read of broken packs"
    if any(finding.files for finding in report.errors):
        yield (
            "next: 'cdr backup' of files that still exist brings lost blobs back; "
            "'cdr repair snapshots' takes out of the versions what stays lost"
        )
    if report.suggest_prune and not report.errors:
        yield "next: 'cdr prune' frees what is not needed"


def _summarize(reports: list[CheckReport], output: Output) -> None:
    """restic's fields, of all repositories together."""
    output.summary(
        {
            "num_errors": sum(len(report.errors) for report in reports),
            "broken_packs": [pack for report in reports for pack in report.broken_packs] or None,
            "suggest_repair_index": any(report.suggest_repair_index for report in reports),
            "suggest_prune": any(report.suggest_prune for report in reports),
            "versions": sum(report.versions for report in reports),
            "trees": sum(report.trees for report in reports),
            "blobs": sum(report.blobs for report in reports),
            "packs": sum(report.packs for report in reports),
            "packs_read": sum(report.packs_read for report in reports),
            "bytes_read": sum(report.bytes_read for report in reports),
            "damage": [
                {"message": finding.text, "pack": finding.pack, "blobs": finding.blobs, "files": finding.files}
                for report in reports
                for finding in report.errors
            ],
            "hints": [finding.text for report in reports for finding in report.hints],
        }
    )
