"""``cdr receive``: take from inboxes, then store (top tier) or pass on (intermediate tier)."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import closing
from functools import partial
from itertools import chain

from cdr_plugin.assembly import intermediate_tier, is_reducing, receiving_tiers, tier_state
from cdr_plugin.cli.agentless import Collected, collecting, settling
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.landing import land_first, may_reduce
from cdr_plugin.cli.work import each, every
from cdr_plugin.config import TierConfig
from cdr_plugin.contracts import Verdict
from cdr_plugin.convenience import last_done_s, note_done, received, receiving_by_group
from cdr_plugin.errors import NotConvenientError, RemoteError
from cdr_plugin.intermediate.objects import Moved
from cdr_plugin.parcel.layout import Layout, put_objects
from cdr_plugin.tier_state import TierState
from cdr_plugin.top.landed import landed_bytes
from cdr_plugin.top.quota import recount
from cdr_plugin.top.receive import receive
from cdr_plugin.top.result import ReceiveResult
from cdr_plugin.top.room import post_notes
from cdr_plugin.top.status_note import post_status
from cdr_plugin.top.tier import TopTier

HELP = """Take what lies in the inboxes: the top tier stores it, an intermediate tier passes it on with 'cdr send',
reduced if it has methods for that."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="also when the policy says it is not convenient")


def run(context: Context) -> int:
    stored, passed_on, collected = ReceiveResult(), Moved(), Collected()
    receivers = [tier for tier in context.tiers if tier.receive is not None]
    code = each(context, receivers, "receive", lambda tier: _one(context, tier, stored, passed_on, collected))
    bytes_in = stored.bytes_in + passed_on.bytes
    context.output.line(
        f"took {format_bytes(bytes_in)}, stored {stored.versions_stored} versions: "
        f"{stored.blobs_new} blobs new, {stored.blobs_duplicate} known"
    )
    if stored.bytes_out:
        waiting_bytes = format_bytes(stored.bytes_out)
        context.output.line(f"{waiting_bytes} and {stored.versions_forwarded} versions go up with the next 'cdr send'")
    if stored.segments_landed:
        context.output.line(f"{stored.segments_landed} segments landed, {format_bytes(stored.bytes_landed)}")
    if stored.blobs_missing:
        context.output.line(f"{stored.blobs_missing} blobs are missing; their clients have been asked for them")
    context.output.summary(
        {
            "versions_stored": stored.versions_stored,
            "versions_forwarded": stored.versions_forwarded,  # a tier that opens nothing cannot tell versions apart
            "blobs_new": stored.blobs_new,
            "blobs_duplicate": stored.blobs_duplicate,
            "blobs_missing": stored.blobs_missing,
            "bytes_in": bytes_in,
            "bytes_landed": stored.bytes_landed,
            "bytes_out": passed_on.bytes + stored.bytes_out,
            "segments_rejected": stored.rejected,
            "snapshots": stored.snapshots,
            "versions_made": collected.versions,
            "waiting_for": "; ".join(filter(None, (*collected.waiting, passed_on.waiting_for, *stored.waiting))),
        }
    )
    return code


def _one(
    context: Context, config: TierConfig, stored: ReceiveResult, passed_on: Moved, collected: Collected
) -> int:
    with closing(tier_state(config)) as state:
        verdicts = _verdicts(context, config, state)
        for group, verdict in verdicts.items():
            if not verdict.convenient:
                collected.waiting.append(verdict.reason)
                context.output.note(f"{config.name}{f', group {group}' if group else ''}: {verdict.reason}")
        _say_status(context, config, verdicts)
        code = 0
        if any(verdict.convenient for verdict in verdicts.values()):
            code = _receive(context, config, stored, passed_on, collected, verdicts)
            for group, verdict in verdicts.items():
                if verdict.convenient:
                    note_done(state, received(group), time.time())
        if code or all(verdict.convenient for verdict in verdicts.values()):
            return code
        return NotConvenientError.exit_code if _has_arrivals(context, config) else 0


def _say_status(context: Context, config: TierConfig, verdicts: Mapping[str, Verdict]) -> None:
    """Tell senders whether we take what they send now, and how fast."""
    assert config.receive is not None
    for top in receiving_tiers(context.config, config, context.plugins, context.output):
        with closing(top):
            if (top.identity_folder / "identity.key").exists():
                own = config.groups.get(top.group)
                limit = own.limit if own is not None and own.limit is not None else config.receive.limit
                post_status(top, verdicts.get(top.group, verdicts[""]), limit, context.output)


def _verdicts(context: Context, config: TierConfig, state: TierState) -> dict[str, Verdict]:
    """Of the tier (``""``), and of each group with a ``when`` of its own."""
    return {
        group: Verdict(True) if context.options.now else policy.ask(last_done_s(state, received(group)))
        for group, policy in receiving_by_group(config, context.plugins).items()
    }


def _has_arrivals(context: Context, config: TierConfig) -> bool:
    """Does anything wait to be taken? Also where that cannot be found out: the storage is away just now."""
    assert config.receive is not None
    own = [group.inbox for group in config.groups.values()]
    try:
        for url in {*config.receive.inbox, *chain(*own)}:
            with context.plugins.transport(url) as inbox:
                if any(not info.name.endswith("/head") for info in put_objects(inbox)):
                    return True
    except RemoteError:
        return True
    return False


def _receive(
    context: Context,
    config: TierConfig,
    stored: ReceiveResult,
    passed_on: Moved,
    collected: Collected,
    verdicts: Mapping[str, Verdict],
) -> int:
    """For the groups for which it is convenient, and what is not of one group when it is for the tier."""
    as_a_whole = verdicts[""]
    first = list(collecting(context, config, collected)) if as_a_whole.convenient else []
    if config.store is None and not is_reducing(config, context.plugins):
        return every(context, "receive", [*first, (config.name, partial(_take, context, config, passed_on))])
    tops = receiving_tiers(context.config, config, context.plugins, context.output)
    may = may_reduce(context, config)
    jobs = [
        (f"{top.name}, group {top.group}", partial(_store, context, config, top, stored, may))
        for top in tops
        if verdicts.get(top.group, as_a_whole).convenient
    ]
    if not may.convenient:
        collected.waiting.append(may.reason)
        context.output.note(f"{config.name}: {may.reason}")
    last = settling(context, config, collected) if as_a_whole.convenient else []
    return every(context, "receive", [*first, *jobs, *last])


def _take(context: Context, config: TierConfig, passed_on: Moved) -> int:
    """Take in what an intermediate tier passes on."""
    moved = intermediate_tier(config, context.plugins).receive(context.output)
    passed_on.add(moved)
    if moved.waiting_for:
        context.output.note(f"{config.name}: {moved.waiting_for}")
    return 1 if moved.failures else NotConvenientError.exit_code if moved.waiting_for else 0


def _store(context: Context, config: TierConfig, top: TopTier, stored: ReceiveResult, may: Verdict) -> int:
    """Take in what came for one group, and say how much room there is now. ``may``: is it convenient to reduce?"""
    assert config.receive is not None
    with closing(top):
        recount(top)
        code = land_first(context, config, top, stored)
        if may.convenient:
            result = receive(top, context.output)
            stored.add(result)
            code = _code_of(context, top, result) or code
        elif landed_bytes(top):
            code = code or NotConvenientError.exit_code
        post_notes(top, config.receive.max_size, Layout(config.receive.layout), context.output)
    return code


def _code_of(context: Context, top: TopTier, result: ReceiveResult) -> int:
    if result.rejected or result.inboxes_failed:
        return 1
    for reason in result.waiting:
        context.output.note(f"{top.name}, group {top.group}: {reason}")
    return NotConvenientError.exit_code if result.waiting else 0
