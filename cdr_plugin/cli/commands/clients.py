"""``cdr clients``: whom the top tier knows, and what the operator says of them."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from cdr_plugin.cli.choosing import one_top, tops_of
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_table
from cdr_plugin.errors import UserError
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.identity.strangers import Stranger
from cdr_plugin.model.quantities import parse_duration
from cdr_plugin.top.proposals import Rules, proposed, rules_of
from cdr_plugin.top.tier import TopTier

HELP = """list: the register of clients and groups, and unknown senders whose segments wait in the inboxes.
revoke NAME: take nothing more from a client. approve NAME: take from it again.
approve FINGERPRINT [--name NAME]: let an unknown sender in. refuse FINGERPRINT: delete what it has put
into the inboxes.
move NAME --to GROUP: take nothing more from it in its group, and print a ticket for the other one. 'cdr enroll
--move' with it makes the client start there anew: it sends everything again, its old versions stay where they are.
rekey NAME FINGERPRINT: the client has lost its keys or its machine, and has asked to be known with new ones
under FINGERPRINT. Its versions, numbering and possession go on; what the old key signs is taken no more.
route NAME [TIER]: the client, which sent to this tier itself, is to come through a tier that reduces from now on
(without one: to this tier again). Numbering and possession go on.
alias NAME [HOSTNAME]: the host name that the client's snapshots carry; without one its name again.

Compare fingerprints with those that the other side shows before you approve anybody or give it new keys."""

_ACTIONS = ("list", "approve", "revoke", "refuse", "move", "rekey", "route", "alias")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=_ACTIONS, default="list")
    parser.add_argument("name", nargs="?", help="the client's name, or the fingerprint of an unknown sender")
    values = "rekey: fingerprint of the new key; route: the tier; alias: the host name"
    parser.add_argument("value", nargs="?", help=values)
    parser.add_argument("--group", "-G", help="its group, when the name is not unique")
    parser.add_argument("--name", dest="new_name", metavar="NAME", help="approve: under this name, not its own")
    parser.add_argument("--to", metavar="GROUP", help="move: the other group")
    parser.add_argument("--valid", default="30d", help="move: how long the ticket can be used (default 30d)")


@dataclass(frozen=True, slots=True)
class Row:
    """A client, or an unknown sender, of one group."""

    top: TopTier
    who: Client | Stranger

    @property
    def fingerprint(self) -> str:
        """Of its present key, as it shows it itself."""
        return self.who.key.fingerprint.hex()

    @property
    def state(self) -> str:
        if isinstance(self.who, Stranger):
            return "unknown"
        return f"moved to {self.who.moved_to}" if self.who.moved_to else self.who.state.value


def run(context: Context) -> int:
    options = context.options
    if options.action != "list" and options.name is None:
        raise UserError(f"{options.action} needs the name of a client; see 'cdr clients list'")
    with ExitStack() as stack:
        rows = _rows(tops_of(context, stack, options.group))
        shown = rows if options.action == "list" else _change(context, stack, rows)
        _show(context, shown)
    return 0


def _rows(tops: Sequence[TopTier]) -> list[Row]:
    known = [Row(top, client) for top in tops for client in top.register.clients(top.group)]
    return known + [Row(top, stranger) for top in tops for stranger in top.register.strangers.all(top.group)]


# --- what the operator says ---


def _change(context: Context, stack: ExitStack, rows: Sequence[Row]) -> list[Row]:
    options = context.options
    if options.action == "approve" and not any(row.who.name == options.name and _is_client(row) for row in rows):
        return [_approve(context, _stranger(rows, options.name))]
    if options.action == "refuse":
        return _refuse(context, _stranger(rows, options.name))
    row = _client(rows, options.name)
    assert isinstance(row.who, Client)
    register, client = row.top.register, row.who
    match options.action:
        case "approve" | "revoke":
            state = ClientState.REVOKED if options.action == "revoke" else ClientState.APPROVED
            register.set_state(client.fingerprint, client.group, state)
        case "alias":
            register.set_alias(client.fingerprint, client.group, options.value or "")
        case "rekey":
            if options.value is None:
                raise UserError("rekey needs the fingerprint of the new key behind the name, see 'cdr clients'")
            _rekey(row, _stranger(rows, options.value))
        case "route":
            tier = _client(rows, options.value).who if options.value else None
            register.route(client.fingerprint, client.group, tier.fingerprint if isinstance(tier, Client) else b"")
        case "move":
            _move(context, stack, row)
    return [Row(row.top, register.client(client.fingerprint, client.group))]


def _is_client(row: Row) -> bool:
    return isinstance(row.who, Client)


def _client(rows: Sequence[Row], name: str) -> Row:
    matching = [row for row in rows if row.who.name == name and _is_client(row)]
    if len(matching) != 1:
        raise UserError(f"{len(matching)} clients are named {name!r}; see 'cdr clients list', use --group or -T")
    return matching[0]


def _stranger(rows: Sequence[Row], text: str) -> Row:
    """By fingerprint or its beginning (at least 8 digits): names are what anybody says of itself."""
    wanted = text.replace("-", "").lower()
    found = [row for row in rows if not _is_client(row) and len(wanted) >= 8 and row.fingerprint.startswith(wanted)]
    if len(found) != 1:
        raise UserError(
            f"{len(found)} unknown senders have a fingerprint that begins with {text!r} (8 digits at least); "
            "see 'cdr clients list'"
        )
    return found[0]


def _approve(context: Context, row: Row) -> Row:
    assert isinstance(row.who, Stranger)
    name = context.options.new_name or row.who.name
    return Row(row.top, row.top.register.admit(row.who, name, now_s=int(time.time())))


def _refuse(context: Context, row: Row) -> list[Row]:
    from cdr_plugin.files import exclusive
    from cdr_plugin.top.strangers import refuse

    assert isinstance(row.who, Stranger)
    with exclusive(row.top.state_folder / "receive.lock", f"receiving of {row.top.name}"):
        deleted = refuse(row.top, row.who, context.output)
    context.output.line(f"{deleted} objects of sender {row.fingerprint[:32]} deleted")
    return []


def _rekey(row: Row, new: Row) -> None:
    from cdr_plugin.files import exclusive

    assert isinstance(row.who, Client) and isinstance(new.who, Stranger)
    if not row.top.is_end:
        raise UserError(f"client {row.who.name}: the tiers above {row.top.name} know it by its key; enrol it anew")
    if new.top is not row.top:
        raise UserError(f"sender {new.fingerprint[:32]} asks to be known in group {new.who.group}, not {row.who.group}")
    with exclusive(row.top.state_folder / "receive.lock", f"receiving of {row.top.name}"):
        row.top.register.rekey(row.who.fingerprint, row.who.group, new.who)


def _move(context: Context, stack: ExitStack, row: Row) -> None:
    assert isinstance(row.who, Client)
    options, client = context.options, row.who
    if options.to is None or options.to == client.group:
        raise UserError("move needs the other group: --to GROUP")
    if client.via:
        raise UserError(f"client {client.name}: it came through another tier; move it there")
    try:
        valid_s = parse_duration(options.valid)
    except ValueError as error:
        raise UserError(f"--valid: {error}") from None
    target = one_top(context, stack, options.to)
    ticket = target.issue_ticket(valid_s=valid_s)  # before the move: without a ticket the client would be nowhere
    row.top.register.move(client.fingerprint, client.group, options.to)
    context.output.line(ticket.rstrip("\n"))
    context.output.summary({"client": client.name, "group": options.to, "ticket": ticket})


# --- the list ---


def _show(context: Context, rows: Sequence[Row]) -> None:
    if context.options.action == "refuse":
        return
    rules = {tier.name: rules_of(tier) for tier in context.tiers}
    table = [
        (
            row.who.group,
            row.who.name or "-",
            row.who.hostname if isinstance(row.who, Client) else "-",
            row.state,
            row.fingerprint[:32],
            ", ".join(_proposals(row, rules[row.top.name])),
        )
        for row in rows
    ]
    headers = ("group", "client", "host name", "state", "fingerprint", "proposed")
    with_proposals = any(line[-1] for line in table)
    if context.options.action != "move":
        width = len(headers) if with_proposals else len(headers) - 1
        context.output.line(format_table(headers[:width], [line[:width] for line in table]))
        for row in rows:
            _explain(context, row)
        context.output.document([_document(row, rules[row.top.name]) for row in rows])


def _proposals(row: Row, rules: Rules) -> list[str]:
    """Groups that the rules propose, where its own is not among them."""
    found = proposed(row.who.facts, rules)
    return [] if row.who.group in found else found


def _explain(context: Context, row: Row) -> None:
    if isinstance(row.who, Stranger):
        context.output.line(
            f"unknown {row.fingerprint[:32]}: {row.who.segments} segments, {format_bytes(row.who.bytes)}, wait; "
            f"{row.who.why}"
        )


def _document(row: Row, rules: Rules) -> dict[str, Any]:
    who = row.who
    shared = {
        "group": who.group,
        "name": who.name,
        "state": "unknown" if isinstance(who, Stranger) else who.state.value,
        "fingerprint": row.fingerprint,
        "facts": dict(who.facts),
        "proposed": proposed(who.facts, rules),
    }
    if isinstance(who, Stranger):
        waits = {"segments": who.segments, "bytes": who.bytes, "first_s": who.first_s, "why": who.why}
        return {**shared, **waits, "has_request": who.sealing is not None, "folder": who.folder}
    return {
        **shared,
        "hostname": who.hostname,
        "enrolled_s": who.enrolled_s,
        "moved_to": who.moved_to,
        "id": who.fingerprint.hex(),
        "kind": who.kind.value,
        "via": who.via.hex(),
    }
