"""``cdr repair``: mend a damaged repository as far as possible."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing

from cdr_plugin.care import RepairReport
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import add_repository_arguments, open_repositories
from cdr_plugin.contracts import Repository
from cdr_plugin.errors import UserError

HELP = """Mend a damaged repository as far as possible. 'cdr check --read-data' says what is damaged; then, in this
order, as far as it applies:

  index      make the index say what the packs hold (lost or damaged index files, lost packs)
  packs      save what can be read of the damaged packs ID..., then remove them
  snapshots  write versions that lack something anew without it: all, or ID...

Keep a copy of the repository first if you can. A backup of the same files, made after 'index' and 'packs', brings
back what is still there at the source, and versions that lacked it are whole again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=("index", "packs", "snapshots"))
    parser.add_argument("ids", metavar="ID", nargs="*")
    parser.add_argument("--read-all-packs", action="store_true", help="index: trust no index, read every pack's header")
    parser.add_argument("--forget", action="store_true", help="snapshots: remove what a new version replaces")
    parser.add_argument("--dry-run", "-n", action="store_true", help="snapshots: only say what would be done")
    add_repository_arguments(parser, writes=True)


def run(context: Context) -> int:
    options = context.options
    repairs: dict[str, Callable[[Repository], RepairReport]] = {
        "index": lambda repository: repository.care().repair_index(read_all_packs=options.read_all_packs),
        "packs": lambda repository: repository.care().repair_packs(options.ids),
        "snapshots": lambda repository: repository.care().repair_versions(
            _full_ids(repository, options.ids), forget=options.forget, dry_run=options.dry_run
        ),
    }
    _refuse_misplaced(options)
    total = RepairReport()
    for repository in open_repositories(context):
        with closing(repository):
            report = repairs[options.what](repository)
        for line in report.done:
            context.output.line(line)
        for line in report.lost:
            context.output.line(f"lost: {line}")
        total.done += report.done
        total.lost += report.lost
    if not total.done and not total.lost:
        context.output.line("nothing to repair")
    context.output.summary({"done": total.done, "lost": total.lost})
    return 0


def _refuse_misplaced(options: argparse.Namespace) -> None:
    if options.what == "packs" and not options.ids:
        raise UserError("which packs? 'cdr check --read-data' names the damaged ones")
    if options.what == "index" and options.ids:
        raise UserError("'repair index' takes no ID: it looks at all packs")
    for option, belongs_to in (("read_all_packs", "index"), ("forget", "snapshots"), ("dry_run", "snapshots")):
        if getattr(options, option) and options.what != belongs_to:
            raise UserError(f"--{option.replace('_', '-')} belongs to 'repair {belongs_to}'")


def _full_ids(repository: Repository, starts: list[str]) -> list[str]:
    versions = repository.versions()
    full = []
    for start in starts:
        found = [version.id for version in versions if version.id.startswith(start)]
        if len(found) != 1:
            raise UserError(f"version {start!r}: {'more than one begins so' if found else 'there is none'}")
        full.append(found[0])
    return full
