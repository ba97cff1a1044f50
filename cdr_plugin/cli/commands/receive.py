"""``cdr receive``: take from inboxes, then store (top tier) or pass on (intermediate tier)."""

from __future__ import annotations

import argparse
from contextlib import closing
from functools import partial

from cdr_plugin.assembly import intermediate_tier, top_tiers
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.work import each, every
from cdr_plugin.config import TierConfig
from cdr_plugin.intermediate.forward import Moved
from cdr_plugin.top.receive import ReceiveResult, receive
from cdr_plugin.top.tier import TopTier

HELP = "Take what lies in the inboxes: the top tier stores it, an intermediate tier passes it on with 'cdr send'."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="also when the policy says it is not convenient")


def run(context: Context) -> int:
    stored, passed_on = ReceiveResult(), Moved()
    receivers = [tier for tier in context.tiers if tier.receive is not None]
    code = each(context, receivers, "receive", lambda tier: _one(context, tier, stored, passed_on))
    bytes_in = stored.bytes_in + passed_on.bytes
    context.output.line(
        f"took {format_bytes(bytes_in)}, stored {stored.versions_stored} versions: "
        f"{stored.blobs_new} blobs new, {stored.blobs_duplicate} known"
    )
    if stored.blobs_missing:
        context.output.line(f"{stored.blobs_missing} blobs are missing; their clients have been asked for them")
    context.output.summary(
        {
            "versions_stored": stored.versions_stored,
            "versions_forwarded": 0,  # a tier that opens nothing cannot tell versions apart
            "blobs_new": stored.blobs_new,
            "blobs_duplicate": stored.blobs_duplicate,
            "blobs_missing": stored.blobs_missing,
            "bytes_in": bytes_in,
            "bytes_out": passed_on.bytes,
            "segments_rejected": stored.rejected,
            "snapshots": stored.snapshots,
        }
    )
    return code


def _one(context: Context, config: TierConfig, stored: ReceiveResult, passed_on: Moved) -> int:
    if config.store is None:
        passed_on.add(intermediate_tier(config, context.plugins).receive(context.output))
        return 0
    tops = top_tiers(context.config, config, context.plugins, context.output)
    jobs = [(f"{top.name}, group {top.group}", partial(_store, context, top, stored)) for top in tops]
    return every(context, "receive", jobs)


def _store(context: Context, top: TopTier, stored: ReceiveResult) -> int:
    """Take in what came for one group."""
    with closing(top):
        result = receive(top, context.output)
    stored.add(result)
    return 1 if result.rejected else 0
