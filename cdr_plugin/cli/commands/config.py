"""``cdr config check|show``: is the configuration sound, and what is in force?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.config import Config
from cdr_plugin.errors import UserError

if TYPE_CHECKING:
    from cdr_plugin.hierarchy.members import Hierarchy, Member

HELP = """check: say whether the configuration is sound and the plugins and tickets that it needs are there.
Every problem that can be found is named, with file, line and key. Several FILEs are checked as well for
whether they fit together: what is forwarded must arrive, in a group that is there.
show: print the configuration in force, with all defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("check", "show"))
    files_help = "check: these instead of the configuration"
    parser.add_argument("files", nargs="*", default=[], type=Path, metavar="FILE", help=files_help)


def run(context: Context) -> int:
    return _check(context) if context.options.action == "check" else _show(context)


def _show(context: Context) -> int:
    from cdr_plugin.config.effective import as_document, as_toml

    if context.options.files:
        raise UserError("config show: name the one file with -c FILE")
    config = Config(context.config.path, {tier.name: tier for tier in context.tiers})
    context.output.document({"config": str(config.path), **as_document(config)})
    context.output.line(f"# {config.path}\n{as_toml(config)}".rstrip("\n"))
    return 0


def _check(context: Context) -> int:
    from cdr_plugin.cli.configurations import joined, report
    from cdr_plugin.hierarchy.findings import Severity, findings

    hierarchy = joined(context)
    files = [str(file.origin.file) for file in hierarchy.files]
    found = list(findings(hierarchy, context.plugins, is_whole=len(files) > 1, is_here=True))
    code = report(context, found)
    chosen = [one for one in hierarchy.members if not context.options.tiers or one.tier.name in context.options.tiers]
    rows = [_row(member, hierarchy) for member in chosen]
    keys = ("name", "role", "from", "to")
    tiers = [dict(zip(keys, row, strict=True)) for row in rows]
    problems = [finding.text for finding in found if finding.severity is Severity.ERROR]
    context.output.summary({"config": files[0], "files": files, "tiers": tiers, "problems": problems})
    if code == 0:
        shown = [(name, role, ", ".join(below), ", ".join(above)) for name, role, below, above in rows]
        sound = "\n".join(f"{file}: sound" for file in files)
        context.output.line(f"{sound}\n\n{format_table(('tier', 'role', 'from', 'to'), shown)}")
    return code


def _row(member: Member, hierarchy: Hierarchy) -> tuple[str, str, list[str], list[str]]:
    tier = member.tier
    below = [other.id for other in hierarchy.below(member)]
    above = [other.id for other in hierarchy.above(member)]
    places = list(tier.forward.to) if tier.forward else []
    if tier.store:
        places = [tier.store.repository]
    return member.id, tier.role.value, below, above or places
