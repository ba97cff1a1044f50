"""``cdr send``: run the transfer queues of clients and intermediate tiers."""

from __future__ import annotations

import argparse

from cdr_plugin.assembly import client_tier, intermediate_tier
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.work import each
from cdr_plugin.client.send import SendResult, send
from cdr_plugin.client.state import SegmentRow
from cdr_plugin.config import TierConfig
from cdr_plugin.contracts import Event

HELP = "Send what waits in the transfer queues to the storage above, and take in the answers from there."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="also when the policy says it is not convenient")


def run(context: Context) -> int:
    total = SendResult()
    senders = [tier for tier in context.tiers if tier.forward is not None]
    code = each(context, senders, "send", lambda tier: _one(context, tier, total))
    context.output.line(
        f"sent {total.segments_sent} segments, {format_bytes(total.bytes_sent)}; "
        f"{total.segments_waiting} wait, {format_bytes(total.bytes_waiting)}"
    )
    context.output.summary(
        {
            "segments_sent": total.segments_sent,
            "bytes_sent": total.bytes_sent,
            "bytes_resumed": 0,
            "segments_waiting": total.segments_waiting,
            "bytes_waiting": total.bytes_waiting,
        }
    )
    return code


def _one(context: Context, config: TierConfig, total: SendResult) -> int:
    if config.source is not None:
        _add(total, send_client(context, config))
    else:
        tier = intermediate_tier(config, context.plugins)
        moved = tier.send(context.output)
        _add(total, SendResult(moved.segments, moved.bytes, *tier.queue()))
    return 0


def send_client(context: Context, config: TierConfig) -> SendResult:
    """Send what waits at one client, and take in the answers."""
    client = client_tier(config, context.plugins)

    def sent(row: SegmentRow) -> None:
        facts = {"parcel": row.parcel_id.hex(), "index": row.index, "size": row.size}
        for problem in context.plugins.emit(Event("segment-sent", client.name, facts)):
            context.output.note(problem)

    return send(client, context.output, sent)


def _add(total: SendResult, one: SendResult) -> None:
    total.segments_sent += one.segments_sent
    total.bytes_sent += one.bytes_sent
    total.segments_waiting += one.segments_waiting
    total.bytes_waiting += one.bytes_waiting
