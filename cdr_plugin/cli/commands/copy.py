"""``cdr copy``: copy versions into another repository."""

from __future__ import annotations

import argparse
import dataclasses
import os
from contextlib import ExitStack, closing
from pathlib import Path

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.repositories import add_filter_arguments, add_repository_arguments, matches, open_repositories
from cdr_plugin.cli.repository_arguments import given_location, given_options
from cdr_plugin.contracts import Repository, StoredVersion
from cdr_plugin.copying import CopyReport, copy_versions
from cdr_plugin.errors import UserError
from cdr_plugin.top.pins import is_pin

HELP = """Copy versions from another repository (--from-repo, RESTIC_FROM_REPOSITORY) into this one.

Without IDs all versions are copied that the filters leave; those that are there already are passed over, and
so is what CDR pins. Blobs that are there are not copied again: between repositories with different chunker
parameters files that both hold share nothing."""

_FROM = "RESTIC_FROM_"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("versions", metavar="VERSION", nargs="*")
    group = parser.add_argument_group("where the versions are now")
    group.add_argument("--from-repo", metavar="LOCATION")
    group.add_argument("--from-repository-file", type=Path, metavar="FILE")
    group.add_argument("--from-password-file", type=Path, metavar="FILE")
    group.add_argument("--from-password-command", metavar="COMMAND")
    group.add_argument("--from-key-hint", metavar="KEY")
    add_repository_arguments(parser, writes=True)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    with ExitStack() as stack:
        source = stack.enter_context(closing(_source(context)))
        targets = [stack.enter_context(closing(repository)) for repository in open_repositories(context)]
        if len(targets) != 1:
            raise UserError("copying goes into one repository; choose it with -r, or with -T and -G")
        if targets[0].id == source.id:
            raise UserError(f"{source.location} and {targets[0].location} are the same repository")
        if source.chunker != targets[0].chunker:
            context.output.note("the two repositories cut files differently: what both hold is stored twice")
        chosen = _chosen(source, context.options)
        reader = stack.enter_context(source.reading())
        with targets[0].writing() as session:
            report = copy_versions(reader, session, chosen, context.output)
    _show(context, report)
    return 1 if report.failed else 0


def _source(context: Context) -> Repository:
    """Options and variables are those of the other repository, with ``from`` in their names."""
    options = context.options
    environment = {
        "RESTIC_" + name.removeprefix(_FROM): value for name, value in os.environ.items() if name.startswith(_FROM)
    }
    given = argparse.Namespace(
        repo=options.from_repo,
        repository_file=options.from_repository_file,
        password_file=options.from_password_file,
        password_command=options.from_password_command,
        key_hint=options.from_key_hint,
        retry_lock=options.retry_lock,
        no_lock=options.no_lock,
    )
    location = given_location(given, environment)
    if location is None:
        raise UserError("no repository to copy from: name it with --from-repo or RESTIC_FROM_REPOSITORY")
    opened = given_options(given, context.output, environment)
    return context.plugins.repository_format("restic").open(location, opened)


def _chosen(source: Repository, options: argparse.Namespace) -> list[StoredVersion]:
    versions = [version for version in source.versions() if not is_pin(version.snapshot)]
    if not options.versions:
        return [version for version in versions if matches(version, options)]
    return [_one(versions, text) for text in options.versions]


def _one(versions: list[StoredVersion], text: str) -> StoredVersion:
    found = [version for version in versions if version.id.startswith(text)]
    if len(found) != 1:
        raise UserError(f"{text!r}: {'no version' if not found else 'more than one version'} to copy from")
    return found[0]


def _show(context: Context, report: CopyReport) -> None:
    for old, new in report.copied.items():
        context.output.line(f"version {old[:8]} is {new[:8]} now")
    context.output.line(
        f"copied {len(report.copied)} versions, {report.present} were there already; "
        f"{report.data_blobs + report.tree_blobs} blobs, {format_bytes(report.bytes)}"
    )
    context.output.summary(dataclasses.asdict(report))
