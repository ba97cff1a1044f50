"""``cdr quarantine``: segments that the top tier could not use, and a hand on them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from cdr_plugin.cli.care_status import moment_of
from cdr_plugin.cli.choosing import tops_of
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_table
from cdr_plugin.cli.work import every
from cdr_plugin.errors import UserError
from cdr_plugin.top.quarantined import Quarantined, choose, drop, quarantined, release
from cdr_plugin.top.tier import TopTier

HELP = """Show segments that were rejected and are kept for a look, or deal with them.

list: what is there, whose it is, and why it was rejected.
release ID...: put it back into its client's inbox, so that the next 'cdr receive' tries it again, as after an
upgrade; with --delete it is removed instead. --all: everything that is there."""

_Entry = tuple[TopTier, Quarantined]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "release"), default="list")
    parser.add_argument("ids", nargs="*", metavar="ID", help="as 'list' shows it, or the start of it")
    parser.add_argument("--all", action="store_true", help="release: all of them")
    parser.add_argument("--delete", action="store_true", help="release: remove instead of trying again")
    parser.add_argument("--group", "-G", help="of this group only")


def run(context: Context) -> int:
    options = context.options
    if (options.action == "list") == bool(options.ids or options.all):
        raise UserError("'cdr quarantine release' takes IDs, or --all; 'list' takes none")
    with ExitStack() as stack:
        found = _look(context, stack)
        if options.action == "list":
            return _list(context, found)
        chosen = found if options.all else _choose(found, options.ids)
        done: list[str] = []
        jobs = [(one.id, lambda top=top, one=one: _release(context, top, one, done)) for top, one in chosen]
        code = every(context, "release", jobs)
        what = "deleted" if options.delete else "put back; 'cdr receive' tries them again"
        context.output.line(f"{len(done)} segments {what}")
        context.output.summary({"released": [] if options.delete else done, "deleted": done if options.delete else []})
        return code


def _look(context: Context, stack: ExitStack) -> list[_Entry]:
    tops = tops_of(context, stack, context.options.group)
    return [(top, one) for top in tops for one in quarantined(top)]


def _choose(found: Sequence[_Entry], texts: Sequence[str]) -> list[_Entry]:
    by_id = {one.id: (top, one) for top, one in found}
    return [by_id[one.id] for one in choose([one for _, one in found], texts)]


def _list(context: Context, found: Sequence[_Entry]) -> int:
    context.output.summary({"quarantine": [_fields(top, one) for top, one in found]})
    rows = [
        (one.id, _name(one), top.group, format_bytes(one.size), moment_of(one.time_s), one.reason or "-")
        for top, one in found
    ]
    if rows:
        context.output.line(format_table(("id", "client", "group", "size", "since", "reason"), rows))
    else:
        context.output.line("nothing is in quarantine")
    return 0


def _fields(top: TopTier, one: Quarantined) -> dict[str, Any]:
    return {
        "id": one.id,
        "tier": top.name,
        "group": top.group,
        "client": one.client.name if one.client else None,
        "parcel": one.parcel_id.hex(),
        "index": one.index,
        "size": one.size,
        "time": moment_of(one.time_s),
        "reason": one.reason,
    }


def _name(one: Quarantined) -> str:
    return one.client.name if one.client else "-"


def _release(context: Context, top: TopTier, one: Quarantined, done: list[str]) -> int:
    if context.options.delete:
        drop(one)
    else:
        release(top, one)
    done.append(one.id)
    return 0
