"""``cdr clients``: whom the top tier knows."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from cdr_plugin.assembly import top_tiers
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.errors import UserError
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.top.tier import TopTier

HELP = """list: the register of clients and groups.
revoke NAME: take nothing more from a client. approve NAME: take from it again."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "approve", "revoke"), default="list")
    parser.add_argument("name", nargs="?", help="the client's name")
    parser.add_argument("--group", "-G", help="its group, when the name is not unique")


def run(context: Context) -> int:
    found = list(_clients(context))
    if context.options.action != "list":
        found = [_change(context, found)]
    rows = [(c.group, c.name, c.hostname, c.state.value, c.fingerprint.hex()[:32]) for _, c in found]
    context.output.line(format_table(("group", "client", "host name", "state", "fingerprint"), rows))
    context.output.document(
        [
            {
                "group": c.group,
                "name": c.name,
                "hostname": c.hostname,
                "state": c.state.value,
                "fingerprint": c.fingerprint.hex(),
                "facts": dict(c.facts),
                "enrolled_s": c.enrolled_s,
            }
            for _, c in found
        ]
    )
    return 0


def _clients(context: Context) -> Iterator[tuple[TopTier, Client]]:
    for tier in context.tiers:
        if tier.store is not None:
            for top in top_tiers(context.config, tier, context.plugins, context.output):
                if context.options.group in (None, top.group):
                    yield from ((top, client) for client in top.register.clients(top.group))


def _change(context: Context, found: list[tuple[TopTier, Client]]) -> tuple[TopTier, Client]:
    name = context.options.name
    matching = [(top, client) for top, client in found if client.name == name]
    if len(matching) != 1:
        raise UserError(f"{len(matching)} clients are named {name!r}; see 'cdr clients list', use --group")
    top, client = matching[0]
    state = ClientState.REVOKED if context.options.action == "revoke" else ClientState.APPROVED
    top.register.set_state(client.fingerprint, client.group, state)
    return top, top.register.client(client.fingerprint, client.group)
