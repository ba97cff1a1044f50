"""``cdr pause``: let tiers alone for a while."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cdr_plugin.cli.work import each

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.config import TierConfig

HELP = """The agent, 'cdr send' and 'cdr receive' leave the tiers alone until 'cdr resume', also after a restart;
sending that is under way stops within seconds. 'cdr backup' and '--now' still work."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    paused: list[str] = []
    code = each(context, context.tiers, "pause", lambda tier: _one(context, tier, paused))
    context.output.summary({"tiers": paused})
    return code


def _one(context: Context, tier: TierConfig, paused: list[str]) -> int:
    from cdr_plugin.config.queues import queues_of
    from cdr_plugin.pause import pause

    folders = {tier.state, *(queue.state for queue in queues_of(tier))}
    is_new = sum(map(pause, folders)) > 0
    paused.append(tier.name)
    context.output.line(f"{tier.name}: {'paused' if is_new else 'was paused already'}")
    return 0
