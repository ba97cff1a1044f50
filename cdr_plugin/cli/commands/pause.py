"""``cdr pause``: let tiers alone for a while."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cdr_plugin.cli.work import each

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.config import TierConfig

HELP = """The agent and 'cdr send' leave the tiers alone until 'cdr resume', also after a restart. What you run by hand
('cdr backup', 'cdr receive', 'cdr send --now') still works."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    paused: list[str] = []
    code = each(context, context.tiers, "pause", lambda tier: _one(context, tier, paused))
    context.output.summary({"tiers": paused})
    return code


def _one(context: Context, tier: TierConfig, paused: list[str]) -> int:
    from cdr_plugin.agent.pause import pause

    is_new = pause(tier.state)
    paused.append(tier.name)
    context.output.line(f"{tier.name}: {'paused' if is_new else 'was paused already'}")
    return 0
