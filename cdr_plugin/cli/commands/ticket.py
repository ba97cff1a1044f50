"""``cdr ticket``: print a ticket that lets clients enrol in a group."""

from __future__ import annotations

import argparse

from cdr_plugin.assembly import top_tiers
from cdr_plugin.cli.context import Context
from cdr_plugin.errors import UserError
from cdr_plugin.model.quantities import parse_duration

HELP = "Print a ticket for a group. It is a secret until it is used; hand it over by a way you trust."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", "-G", help="the group (default: the only one)")
    parser.add_argument("--uses", type=int, default=1, help="how many clients may enrol with it (default 1)")
    parser.add_argument("--valid", default="30d", help="how long it can be used (default 30d)")


def run(context: Context) -> int:
    options = context.options
    if options.uses < 1:
        raise UserError("--uses: at least one client must be able to use a ticket")
    try:
        valid_s = parse_duration(options.valid)
    except ValueError as error:
        raise UserError(f"--valid: {error}") from None
    tops = [
        top
        for tier in context.tiers
        if tier.store is not None
        for top in top_tiers(context.config, tier, context.plugins, context.output)
    ]
    chosen = [top for top in tops if options.group in (None, top.group)]
    if len(chosen) != 1:
        groups = ", ".join(sorted(top.group for top in tops)) or "none"
        raise UserError(f"name one group with --group (there are: {groups}), or one tier with -T")
    (top,) = chosen
    text = top.issue_ticket(uses=options.uses, valid_s=valid_s)
    context.output.line(text.rstrip("\n"))
    context.output.summary({"group": top.group, "ticket": text})
    return 0
