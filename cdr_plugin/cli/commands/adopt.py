"""``cdr adopt``: let a client refer to what the repository holds already."""

from __future__ import annotations

import argparse
from contextlib import closing

from cdr_plugin.assembly import client_tier, top_tiers
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.work import each
from cdr_plugin.client.adoption import Taken, fetch_baseline
from cdr_plugin.config import TierConfig
from cdr_plugin.errors import NotFoundError, UserError
from cdr_plugin.top.adopt import Adopted, adopt
from cdr_plugin.top.choosing import LATEST, Wanted
from cdr_plugin.top.tier import TopTier

HELP = """Give a client a baseline from what the repository holds, so that it sends nothing twice.

At the top tier, 'cdr adopt CLIENT' says that this client is the machine whose versions, made by restic or by
cdr before the client lost its state, lie in the repository: the client may then refer to whatever the
newest of them reaches. Only the operator can say so; compare the fingerprint in 'cdr clients' first.

On the client, 'cdr adopt' takes in what was given; 'cdr send' does so too. Then run 'cdr backup'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("client", nargs="?", metavar="CLIENT", help="the client's name, at the top tier")
    add("--snapshot", default=LATEST, metavar="ID", help="the version to adopt (default: the newest that fits)")
    add("--host", "-H", default="", help="its host (default: the client's names, and the host that it says it is)")
    add("--path", action="append", default=[], metavar="PATH", help="only versions with this path")
    add("--from", dest="former", default="", metavar="ID", help="the ID that the same machine had before")
    add("--group", "-G", help="the client's group, when its name is not unique")


def run(context: Context) -> int:
    options = context.options
    if options.client is not None:
        return _grant(context)
    if options.snapshot != LATEST or options.host or options.path or options.former:
        raise UserError("these options choose what CLIENT adopts: name it, at the top tier")
    taken: list[Taken] = []
    clients = [tier for tier in context.tiers if tier.source is not None]
    code = each(context, clients, "adopt", lambda tier: _fetch(context, tier, taken))
    context.output.summary(
        {
            "blobs": sum(one.blobs for one in taken),
            "snapshots": [one.snapshot for one in taken],
            "version": taken[0].number if len(taken) == 1 else None,
        }
    )
    return code


# --- on the client ---


def _fetch(context: Context, config: TierConfig, taken: list[Taken]) -> int:
    client = client_tier(config, context.plugins)
    try:
        found = fetch_baseline(client, context.output)
    except NotFoundError:
        raise UserError(
            f"client {client.name}: nothing to adopt in {client.to}; "
            f"run 'cdr adopt {client.name}' at the top tier first"
        ) from None
    if found is None:
        context.output.line(f"client {client.name}: adopted already")
        return 0
    taken.append(found)
    context.output.line(f"client {client.name}: {found.text}")
    return 0


# --- at the top tier ---


def _grant(context: Context) -> int:
    options = context.options
    wanted = Wanted(options.snapshot, options.host, options.path, options.former)
    with closing(_top_of(context)) as top:
        _tell(context, adopt(top, options.client, wanted, context.output))
    return 0


def _top_of(context: Context) -> TopTier:
    """The top tier whose group the client is in."""
    options = context.options
    tops = [
        top
        for tier in context.tiers
        if tier.store is not None
        for top in top_tiers(context.config, tier, context.plugins, context.output)
        if options.group in (None, top.group)
    ]
    if not tops:
        raise UserError(f"no top tier to adopt at in {context.config.path}; on a client, 'cdr adopt' takes no name")
    having = [top for top in tops if any(c.name == options.client for c in top.register.clients(top.group))]
    chosen = having or tops
    for top in tops:
        if top is not chosen[0]:
            top.close()
    if len(chosen) > 1:
        chosen[0].close()
        raise UserError(f"client {options.client}: choose its group with --group, see 'cdr clients'")
    return chosen[0]


def _tell(context: Context, adopted: Adopted) -> None:
    client, snapshot = adopted.client, adopted.version.snapshot
    context.output.line(
        f"client {client.name} ({client.fingerprint.hex()[:16]}) adopted version {adopted.version.id[:8]} of "
        f"host {snapshot.hostname}, {snapshot.time[:19]}, {', '.join(snapshot.paths)}"
    )
    context.output.line(
        f"it need not send {adopted.blobs} blobs; its baseline of {format_bytes(adopted.baseline_bytes)} waits for it: "
        "'cdr adopt' or 'cdr send' there takes it in"
    )
    context.output.summary(
        {
            "client": client.name,
            "fingerprint": client.fingerprint.hex(),
            "snapshot_id": adopted.version.id,
            "hostname": snapshot.hostname,
            "paths": snapshot.paths,
            "blobs": adopted.blobs,
            "blobs_not_granted": adopted.not_granted,
            "baseline_bytes": adopted.baseline_bytes,
            "version": adopted.number,
        }
    )
