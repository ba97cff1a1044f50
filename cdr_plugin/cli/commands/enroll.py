"""``cdr enroll TICKET``: adopt a ticket on a client."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cdr_plugin.assembly import client_facts, client_tier
from cdr_plugin.cli.context import Context
from cdr_plugin.errors import UserError
from cdr_plugin.timezone import local_zone_name

from .init import read_text

HELP = "Adopt a ticket: the whole set-up of a client. 'cdr send' then tells the tier above."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", help="the ticket's file, or - for standard input")


def run(context: Context) -> int:
    clients = [tier for tier in context.tiers if tier.source is not None]
    if len(clients) != 1:
        names = ", ".join(tier.name for tier in clients) or "none"
        raise UserError(f"choose one client with -T (there are: {names})")
    text = sys.stdin.read(64 * 1024) if context.options.file == "-" else read_text(Path(context.options.file))
    client = client_tier(clients[0], context.plugins)
    source = clients[0].source
    client.init((source.timezone if source else None) or local_zone_name())
    ticket = client.enroll(text, client_facts(client.zone_name))
    ours, theirs = client.fingerprint.hex()[:32], ticket.issuer.fingerprint.hex()[:32]
    context.output.line(f"client {client.name} enrolled in group {ticket.group}")
    context.output.line(f"fingerprint of this client:   {ours}")
    context.output.line(f"fingerprint of the tier above: {theirs}")
    context.output.summary({"client": client.name, "group": ticket.group, "fingerprint": ours, "issuer": theirs})
    return 0
