"""``cdr queue``: what waits in the transfer queue of a client, and a hand on it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_table
from cdr_plugin.cli.work import each
from cdr_plugin.errors import UserError

if TYPE_CHECKING:
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.config import TierConfig

HELP = """Show what waits in the transfer queues of clients, take a version back, or send again.

list: parcels, versions and segments that are not committed above, with what the spool holds of them.
drop: take VERSION, and those behind it, out of the queue. Without --force only versions that have not begun to
travel; the next version takes their number. With --force what is left of the version's segments goes, whatever
its state: it may never be completed, and the next backup reads all files.
retry: segments that were sent and that no receipt has answered go out again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "drop", "retry"), default="list")
    parser.add_argument("version", nargs="?", type=int, metavar="VERSION", help="number of the version to drop")
    parser.add_argument("--force", action="store_true", help="drop the version whatever its state")


def run(context: Context) -> int:
    options = context.options
    if (options.action == "drop") != (options.version is not None):
        raise UserError("'cdr queue drop' takes the number of a version; 'list' and 'retry' take none")
    clients = [tier for tier in context.queues if tier.source is not None]
    if options.action == "drop" and len(clients) != 1:
        raise UserError(f"choose one client with -T (there are: {', '.join(tier.name for tier in clients) or 'none'})")
    act = {"list": _list, "drop": _drop, "retry": _retry}[options.action]
    found: list[dict[str, Any]] = []

    def work(tier: TierConfig) -> int:
        found.append(act(context, tier))
        return 0

    code = each(context, clients, "look at the queue of", work)
    context.output.summary({"clients": found})
    return code


def _client(context: Context, config: TierConfig) -> ClientTier:
    from cdr_plugin.assembly import client_tier

    return client_tier(config, context.plugins)


# --- list ---


def _list(context: Context, config: TierConfig) -> dict[str, Any]:
    client = _client(context, config)
    parcels = list(_parcels(client))
    resting, resting_bytes = client.state.holdings.resting()
    wanted = client.state.wanted.all()
    _show(context, config.name, parcels)
    if resting:
        context.output.line(f"{resting} segments, {format_bytes(resting_bytes)}, rest on recipes alone")
    if wanted:
        context.output.line(f"{len(wanted)} blobs are missing above; the next 'cdr send' sends them again")
    return {
        "client": config.name,
        "parcels": parcels,
        "spool_bytes": client.state.holdings.size(),
        "resting": {"segments": resting, "bytes": resting_bytes},
        "blobs_wanted": len(wanted),
    }


def _parcels(client: ClientTier) -> Iterator[dict[str, Any]]:
    """Parcels of which something is not released, in the order in which they travel."""
    from cdr_plugin.client.states import SegmentState

    rows = client.state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN)
    versions = client.state.versions_by_parcel()
    for parcel in client.state.parcels():
        own = [row for row in rows if row.parcel_ord == parcel.ord]
        version = versions.get(parcel.ord)
        yield {
            "parcel": parcel.id.hex(),
            "version": version.number if version else None,
            "state": version.state.value if version else "answers" if parcel.answers else "unfinished",
            "time": version.time if version else None,
            "bytes": sum(row.size for row in own),
            "bytes_held": sum(row.size for row in own if row.held),
            "segments": [
                {"index": row.index, "size": row.size, "state": row.state.value, "held": row.held} for row in own
            ],
        }


def _show(context: Context, name: str, parcels: Iterable[dict[str, Any]]) -> None:
    rows = [
        (
            f"  {parcel['version'] or '-'}",
            parcel["state"],
            parcel["parcel"][:12],
            _count(parcel["segments"]),
            format_bytes(parcel["bytes"]),
            format_bytes(parcel["bytes_held"]),
        )
        for parcel in parcels
    ]
    context.output.line(f"{name}: {'nothing waits' if not rows else ''}".rstrip())
    if rows:
        headers = ("  version", "state", "parcel", "segments", "size", "in the spool")
        context.output.line(format_table(headers, rows))


def _count(segments: Iterable[dict[str, Any]]) -> str:
    states = [segment["state"] for segment in segments]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


# --- drop and retry ---


def _drop(context: Context, config: TierConfig) -> dict[str, Any]:
    from cdr_plugin.client.replacing import drop_versions

    options = context.options
    dropped, size = drop_versions(_client(context, config), options.version, force=options.force)
    context.output.line(
        f"{config.name}: versions {', '.join(map(str, dropped))} dropped, {format_bytes(size)} freed in the spool"
    )
    return {"client": config.name, "dropped": dropped, "bytes_freed": size}


def _retry(context: Context, config: TierConfig) -> dict[str, Any]:
    from cdr_plugin.client.send import retry

    count = retry(_client(context, config))
    context.output.line(f"{config.name}: {count} segments go out again with the next 'cdr send'")
    return {"client": config.name, "segments": count}
