"""``cdr ticket``: print a ticket that lets clients, or tiers that reduce, enrol; list tickets, take one back."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack
from datetime import UTC, datetime

from cdr_plugin.cli.choosing import one_top, tops_of
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.errors import UserError
from cdr_plugin.identity.register import IssuedTicket, SenderKind
from cdr_plugin.model.quantities import parse_duration

HELP = """Print a ticket for a group. It is a secret until it is used; hand it over by a way you trust.
list: the tickets that were issued. withdraw ID: nobody else can enrol with it; who has stays enrolled."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("issue", "list", "withdraw"), default="issue")
    parser.add_argument("id", nargs="?", help="withdraw: the ticket's ID")
    parser.add_argument("--group", "-G", help="the group (default: the only one)")
    parser.add_argument("--uses", type=int, default=1, help="how many clients may enrol with it (default 1)")
    parser.add_argument("--for-tier", action="store_true", help="for an intermediate tier that reduces, not a client")
    parser.add_argument("--valid", default="30d", help="how long it can be used (default 30d)")


def run(context: Context) -> int:
    with ExitStack() as stack:
        match context.options.action:
            case "list":
                return _list(context, stack)
            case "withdraw":
                return _withdraw(context, stack)
            case _:
                return _issue(context, stack)


def _issue(context: Context, stack: ExitStack) -> int:
    options = context.options
    if options.uses < 1:
        raise UserError("--uses: at least one client must be able to use a ticket")
    try:
        valid_s = parse_duration(options.valid)
    except ValueError as error:
        raise UserError(f"--valid: {error}") from None
    top = one_top(context, stack, options.group)
    kind = SenderKind.TIER if options.for_tier else SenderKind.CLIENT
    text = top.issue_ticket(uses=options.uses, valid_s=valid_s, kind=kind)
    context.output.line(text.rstrip("\n"))
    context.output.summary({"group": top.group, "ticket": text})
    return 0


def _list(context: Context, stack: ExitStack) -> int:
    now_s = time.time()
    tops = tops_of(context, stack, context.options.group)
    tickets = [ticket for top in tops for ticket in top.register.tickets(top.group)]
    rows = [(t.id.hex(), t.group, t.kind.value, t.uses_left, _moment(t.expires_s), _state(t, now_s)) for t in tickets]
    context.output.line(format_table(("ticket", "group", "for", "uses left", "expires", "state"), rows))
    context.output.document(
        [
            {
                "id": ticket.id.hex(),
                "group": ticket.group,
                "kind": ticket.kind.value,
                "uses_left": ticket.uses_left,
                "issued_s": ticket.issued_s,
                "expires_s": ticket.expires_s,
                "state": _state(ticket, now_s),
            }
            for ticket in tickets
        ]
    )
    return 0


def _withdraw(context: Context, stack: ExitStack) -> int:
    wanted = (context.options.id or "").lower()
    tops = tops_of(context, stack, context.options.group)
    found = [
        (top, ticket)
        for top in tops
        for ticket in top.register.tickets(top.group)
        if len(wanted) >= 4 and ticket.id.hex().startswith(wanted)
    ]
    if len(found) != 1:
        raise UserError(f"{len(found)} tickets have an ID that begins with {wanted!r}; see 'cdr ticket list'")
    top, ticket = found[0]
    top.register.withdraw_ticket(ticket.id)
    context.output.line(f"ticket {ticket.id.hex()} of group {ticket.group} is withdrawn")
    context.output.summary({"id": ticket.id.hex(), "group": ticket.group})
    return 0


def _state(ticket: IssuedTicket, now_s: float) -> str:
    if ticket.uses_left < 1:
        return "used up"
    return "expired" if now_s > ticket.expires_s else "valid"


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(min(seconds, 253_402_300_799), UTC).isoformat(timespec="seconds")
