"""The groups of top tiers that a command means."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from cdr_plugin.errors import UserError

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.top.tier import TopTier


def tops_of(context: Context, stack: ExitStack, group: str | None = None) -> list[TopTier]:
    """Every group of every chosen top tier, or those named ``group``; ``stack`` closes them. UserError when there is
    none."""
    from cdr_plugin.assembly import top_tiers

    found = [
        top
        for tier in context.tiers
        if tier.store is not None
        for top in top_tiers(context.config, tier, context.plugins, context.output)
    ]
    for top in found:
        stack.callback(top.close)
    chosen = [top for top in found if group in (None, top.group)]
    if not chosen:
        groups = ", ".join(sorted({top.group for top in found}))
        where = f"no group {group!r}; there are: {groups}" if found else "no top tier"
        raise UserError(f"{context.config.path}: {where}")
    return chosen


def one_top(context: Context, stack: ExitStack, group: str | None = None) -> TopTier:
    """The one group that is meant; UserError when there are several."""
    chosen = tops_of(context, stack, group)
    if len(chosen) > 1:
        groups = ", ".join(sorted(top.group for top in chosen))
        raise UserError(f"name one group with --group (there are: {groups}), or one tier with -T")
    return chosen[0]
