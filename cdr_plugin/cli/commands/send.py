"""``cdr send``: run the transfer queues of clients and intermediate tiers."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace

from cdr_plugin.above import within_what_is_offered
from cdr_plugin.assembly import client_tier, intermediate_tier, is_reducing, reducing_tiers, tier_state
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.work import each
from cdr_plugin.client.send import SendResult, send
from cdr_plugin.client.state import SegmentRow
from cdr_plugin.config import TierConfig
from cdr_plugin.contracts import Event, Verdict
from cdr_plugin.convenience import SENT, Convenience, last_done_s, note_done, sending
from cdr_plugin.errors import NotConvenientError
from cdr_plugin.intermediate.tier import IntermediateTier

HELP = "Send what waits in the transfer queues to the storage above, and take in the answers from there."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--now", action="store_true", help="also when the policy says it is not convenient")


def run(context: Context) -> int:
    total = SendResult()
    senders = [tier for tier in context.queues if tier.forward is not None]
    code = each(context, senders, "send", lambda tier: _one(context, tier, total))
    context.output.line(
        f"sent {total.segments_sent} segments, {format_bytes(total.bytes_sent)}; "
        f"{total.segments_waiting} wait, {format_bytes(total.bytes_waiting)}"
    )
    context.output.summary(
        {
            "segments_sent": total.segments_sent,
            "bytes_sent": total.bytes_sent,
            "bytes_resumed": total.bytes_resumed,
            "segments_waiting": total.segments_waiting,
            "bytes_waiting": total.bytes_waiting,
            "waiting_for": total.waiting_for,
        }
    )
    return code


def _one(context: Context, config: TierConfig, total: SendResult) -> int:
    one = send_client(context, config) if config.source is not None else _send_intermediate(context, config)
    total.add(one)
    if not one.waiting_for:
        return 0
    context.output.note(f"{config.name}: {one.waiting_for}")
    return NotConvenientError.exit_code if one.segments_waiting else 0


def send_client(context: Context, config: TierConfig) -> SendResult:
    """Send what waits at one client while its policy allows it, and take in the answers; the result says
    what it waits for."""
    config = within_what_is_offered(config, context.plugins)
    client = client_tier(config, context.plugins)
    mover = intermediate_tier(config, context.plugins) if config.receive is not None else None

    def queue() -> tuple[int, int]:
        queues = [client.state.queue(), *([mover.queue()] if mover else [])]
        return sum(segments for segments, _ in queues), sum(size for _, size in queues)

    def work(policy: Convenience) -> SendResult:
        result = send(client, context.output, _noted(context, client.name), policy.while_working())
        if mover is not None:  # the tier passes on what others sent to it, too
            result.add(_moved(context, mover, policy))
        return result

    return _when_convenient(context, config, queue, work)


def _send_intermediate(context: Context, config: TierConfig) -> SendResult:
    if is_reducing(config, context.plugins):
        return _send_reduced(context, config)
    tier = intermediate_tier(config, context.plugins)

    def work(policy: Convenience) -> SendResult:
        return _moved(context, tier, policy)

    return _when_convenient(context, config, tier.queue, work)


def _moved(context: Context, tier: IntermediateTier, policy: Convenience) -> SendResult:
    moved = tier.send(context.output, policy.while_working())
    segments, waiting = tier.queue()
    return SendResult(moved.segments, moved.bytes, segments, waiting, waiting_for=moved.waiting_for)


def _send_reduced(context: Context, config: TierConfig) -> SendResult:
    """Of every group of a tier that reduces."""
    config = within_what_is_offered(config, context.plugins)
    from cdr_plugin.reducing.sending import send as send_up
    from cdr_plugin.reducing.sending import waiting

    with ExitStack() as stack:
        tiers = list(reducing_tiers(context.config, config, context.plugins, context.output))
        for tier in tiers:
            stack.callback(tier.close)

        def queue() -> tuple[int, int]:
            return tuple(map(sum, zip(*map(waiting, tiers), strict=True)))  # type: ignore[return-value]

        def work(policy: Convenience) -> SendResult:
            total = SendResult()
            for tier in tiers:
                total.add(send_up(tier, context.output, _noted(context, tier.name), policy.while_working()))
            return total

        return _when_convenient(context, config, queue, work)


def _noted(context: Context, name: str) -> Callable[[SegmentRow], None]:
    """Tells plugins of each segment that is durable in the storage."""

    def sent(row: SegmentRow) -> None:
        facts = {"parcel": row.parcel_id.hex(), "index": row.index, "size": row.size}
        for problem in context.plugins.emit(Event("segment-sent", name, facts)):
            context.output.note(problem)

    return sent


def _when_convenient(
    context: Context,
    config: TierConfig,
    queue: Callable[[], tuple[int, int]],
    work: Callable[[Convenience], SendResult],
) -> SendResult:
    """``work`` if the policy allows it to begin; remembers when it has come to its end."""
    policy = sending(config, context.plugins)
    if getattr(context.options, "now", False):  # 'backup --wait' sends, too
        policy = replace(policy, when={}, state=None)
    segments, waiting = queue()
    with closing(tier_state(config)) as state:
        verdict = policy.ask(last_done_s(state, SENT))
        if not verdict.convenient:
            return SendResult(segments_waiting=segments, bytes_waiting=waiting, waiting_for=verdict.reason)
        result = work(policy)
        if not result.waiting_for:
            note_done(state, SENT, time.time())
    return result


def sending_from_within(context: Context, config: TierConfig) -> Callable[[], Verdict]:
    """Whether a run that finds its spool full may send now: asked first when it does."""
    policy = sending(config, context.plugins)
    may_go_on: Callable[[], Verdict] | None = None

    def may_send() -> Verdict:
        nonlocal may_go_on
        if may_go_on is None:
            with closing(tier_state(config)) as state:
                verdict = policy.ask(last_done_s(state, SENT))
            if not verdict.convenient:
                return verdict
            may_go_on = policy.while_working()
        return may_go_on()

    return may_send
