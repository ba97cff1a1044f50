"""``cdr resume``: the end of ``cdr pause``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cdr_plugin.cli.work import each

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.config import TierConfig

HELP = "End what 'cdr pause' began; the agent catches up within a minute."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    resumed: list[str] = []
    code = each(context, context.tiers, "resume", lambda tier: _one(context, tier, resumed))
    context.output.summary({"tiers": resumed})
    return code


def _one(context: Context, tier: TierConfig, resumed: list[str]) -> int:
    from cdr_plugin.config.queues import queues_of
    from cdr_plugin.pause import resume

    folders = {tier.state, *(queue.state for queue in queues_of(tier))}
    if sum(map(resume, folders)):
        resumed.append(tier.name)
        context.output.line(f"{tier.name}: goes on")
    else:
        context.output.line(f"{tier.name}: was not paused")
    return 0
