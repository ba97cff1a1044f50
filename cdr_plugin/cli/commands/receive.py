"""``cdr receive``: take from inboxes, then store (top tier) or pass on (intermediate tier)."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from cdr_plugin.assembly import intermediate_tier, top_tiers
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.work import each, every
from cdr_plugin.config import TierConfig
from cdr_plugin.top.receive import receive
from cdr_plugin.top.tier import TopTier

HELP = "Take what lies in the inboxes: the top tier stores it, an intermediate tier passes it on with 'cdr send'."


@dataclass(slots=True)
class _Total:
    versions_stored: int = 0
    versions_forwarded: int = 0
    blobs_new: int = 0
    blobs_duplicate: int = 0
    blobs_missing: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    segments_rejected: int = 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="also when the policy says it is not convenient")


def run(context: Context) -> int:
    total = _Total()
    snapshots: list[str] = []
    receivers = [tier for tier in context.tiers if tier.receive is not None]
    code = each(context, receivers, "receive", lambda tier: _one(context, tier, total, snapshots))
    context.output.line(
        f"took {format_bytes(total.bytes_in)}, stored {total.versions_stored} versions: "
        f"{total.blobs_new} blobs new, {total.blobs_duplicate} known"
    )
    if total.blobs_missing:
        context.output.line(f"{total.blobs_missing} blobs are missing; their clients have been asked for them")
    fields = {name: getattr(total, name) for name in _Total.__dataclass_fields__}
    context.output.summary({**fields, "snapshots": snapshots})
    return code


def _one(context: Context, config: TierConfig, total: _Total, snapshots: list[str]) -> int:
    if config.store is None:
        moved = intermediate_tier(config, context.plugins).receive(context.output)
        total.bytes_in += moved.bytes
        total.bytes_out += moved.bytes
        return 0
    tops = top_tiers(context.config, config, context.plugins, context.output)
    jobs = [(f"{top.name}, group {top.group}", partial(_store, context, top, total, snapshots)) for top in tops]
    return every(context, "receive", jobs)


def _store(context: Context, top: TopTier, total: _Total, snapshots: list[str]) -> int:
    """Take in what came for one group."""
    with closing(top):
        result = receive(top, context.output)
    total.versions_stored += result.versions_stored
    total.blobs_new += result.blobs_new
    total.blobs_duplicate += result.blobs_duplicate
    total.blobs_missing += result.blobs_missing
    total.bytes_in += result.bytes_in
    total.segments_rejected += result.rejected
    snapshots += result.snapshots
    return 1 if result.rejected else 0
