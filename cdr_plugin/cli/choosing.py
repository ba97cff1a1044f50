"""The groups that a command means, of tiers that know their clients."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from cdr_plugin.errors import UserError

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.top.tier import TopTier


def tops_of(
    context: Context, stack: ExitStack, group: str | None = None, *, only_ends: bool = False
) -> list[TopTier]:
    """Every group of every chosen tier that opens what it takes, or those named ``group``; ``stack`` closes them.
    UserError when there is none. ``only_ends``: of top tiers only."""
    from cdr_plugin.assembly import receiving_tiers

    found = [
        top
        for tier in context.tiers
        for top in receiving_tiers(context.config, tier, context.plugins, context.output)
        if top.is_end or not only_ends
    ]
    for top in found:
        stack.callback(top.close)
    chosen = [top for top in found if group in (None, top.group)]
    if not chosen:
        groups = ", ".join(sorted({top.group for top in found}))
        nobody = "no tier that knows clients (a top tier, or one that reduces)"
        where = f"no group {group!r}; there are: {groups}" if found else nobody
        raise UserError(f"{context.config.path}: {where}")
    return chosen


def one_top(context: Context, stack: ExitStack, group: str | None = None, *, only_ends: bool = False) -> TopTier:
    """The one group that is meant; UserError when there are several."""
    chosen = tops_of(context, stack, group, only_ends=only_ends)
    if len(chosen) > 1:
        groups = ", ".join(sorted(f"{top.group} of {top.name}" for top in chosen))
        raise UserError(f"name one group with --group, or one tier with -T (there are: {groups})")
    return chosen[0]
