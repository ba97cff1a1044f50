"""``cdr enroll TICKET``: adopt a ticket on a client, or on an intermediate tier that reduces."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cdr_plugin.assembly import client_facts, client_tier, is_reducing, reducing_tiers, tier_facts
from cdr_plugin.cli.context import Context
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.config import TierConfig
from cdr_plugin.config.places import parse_url, same_place
from cdr_plugin.errors import UserError
from cdr_plugin.identity.ticket import ticket_group
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.timezone import local_zone_name

from .init import read_text

HELP = "Adopt a ticket: the whole set-up of a client. 'cdr send' then tells the tier above."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the ticket's file, or - for standard input")
    move_help = "into another group: start with a new state, the old one is put aside"
    parser.add_argument("--move", action="store_true", help=move_help)
    parser.add_argument("--to", metavar="URL", help="of several storages, the one that the ticket is for")


def run(context: Context) -> int:
    text = sys.stdin.read(64 * 1024) if context.options.file == "-" else read_text(Path(context.options.file))
    tiers = [tier for tier in context.tiers if is_reducing(tier, context.plugins)]
    if len(tiers) == 1 and (context.options.tiers or not any(tier.source for tier in context.tiers)):
        return _enroll_tier(context, tiers[0], text)
    config = _chosen(context, text)
    client = client_tier(config, context.plugins)
    if context.options.move:
        _move(context, client, text)
    source = config.source
    client.init((source.timezone if source else None) or local_zone_name())
    ticket = client.enroll(text, client_facts(client.zone_name, config.facts))
    ours, theirs = client.fingerprint.hex()[:32], ticket.issuer.fingerprint.hex()[:32]
    context.output.line(f"client {client.name} enrolled in group {ticket.group}")
    context.output.line(f"fingerprint of this client:   {ours}")
    context.output.line(f"fingerprint of the tier above: {theirs}")
    context.output.summary({"client": client.name, "group": ticket.group, "fingerprint": ours, "issuer": theirs})
    return 0


def _move(context: Context, client: ClientTier, text: str) -> None:
    from cdr_plugin.client.moving import put_state_aside
    from cdr_plugin.identity.ticket import read_ticket

    group = read_ticket(text, now_s=time.time()).group
    if client.group not in (None, group):
        raise UserError(f"client {client.name}: write group = {group!r} into {context.config.path} first")
    aside = put_state_aside(client, group)
    if aside is not None:
        context.output.line(f"client {client.name} starts anew; its state of before is {aside}")
def _enroll_tier(context: Context, config: TierConfig, text: str) -> int:
    """A tier that reduces: for one of its groups, and one of its storages."""
    group = ticket_group(text)
    for tier in reducing_tiers(context.config, config, context.plugins, context.output):
        with closing(tier):
            if tier.group == group:
                list(tier.init())
                uplink = _chosen_uplink(context, tier, text)
                ticket = tier.enroll(text, uplink, tier_facts())
                ours, theirs = uplink.fingerprint.hex()[:32], ticket.issuer.fingerprint.hex()[:32]
                context.output.line(f"tier {config.name} enrolled in group {group}")
                context.output.line(f"fingerprint of this tier:      {ours}")
                context.output.line(f"fingerprint of the tier above: {theirs}")
                context.output.summary({"tier": config.name, "group": group, "fingerprint": ours, "issuer": theirs})
                return 0
    table = f"[tier.{config.name}.group.{group}]"
    raise UserError(f"tier {config.name} does not serve group {group!r} of this ticket; add {table}")


def _chosen_uplink(context: Context, tier: ReducingTier, text: str) -> Uplink:
    given = context.options.to
    wanted = _inboxes(text) if given is None else [parse_url(given, context.config.path.parent)]
    places = set(map(same_place, wanted))
    found = [uplink for uplink in tier.uplinks if places & set(map(same_place, uplink.storages))]
    if len(tier.uplinks) == 1 and given is None:
        return tier.uplinks[0]
    if len(found) != 1:
        urls = ", ".join(uplink.to for uplink in tier.uplinks)
        raise UserError(f"tier {tier.name} sends to several storages; choose one with --to (there are: {urls})")
    return found[0]


def _chosen(context: Context, text: str) -> TierConfig:
    """The one client, or of its queues the one whose storage ``--to`` or the ticket names; UserError."""
    clients = [tier for tier in context.queues if tier.source is not None]
    if context.options.to is not None or len(clients) > 1:
        given = context.options.to
        wanted = _inboxes(text) if given is None else [parse_url(given, context.config.path.parent)]
        chosen = [tier for tier in clients if any(_goes_to(tier, url) for url in wanted)]
        clients = chosen if chosen or given is not None else clients
    if len(clients) != 1:
        names = ", ".join(tier.name for tier in clients) or "none"
        raise UserError(f"choose one client with -T, and of its storages one with --to (there are: {names})")
    return clients[0]


def _goes_to(tier: TierConfig, url: str) -> bool:
    return tier.forward is not None and same_place(url) in set(map(same_place, tier.forward.to))


def _inboxes(text: str) -> Sequence[str]:
    from cdr_plugin.identity.ticket import read_ticket

    return read_ticket(text, now_s=0).inboxes
