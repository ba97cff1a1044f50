"""``cdr key``: list, add, remove and change passwords of the repository."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cdr_plugin.care import KeyInfo, RepositoryCare
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.cli.repositories import add_repository_arguments, open_one_repository
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.model.times import parse_time
from cdr_plugin.passwords import read_new_password

HELP = """Passwords of a repository; each has a key of its own, and any of them opens it.

  cdr key list        the keys; the one in use has a star
  cdr key add         a further password
  cdr key remove ID   take a password away; not the one in use
  cdr key passwd      change the password in use

New passwords come from --new-password-file, or are typed twice on a terminal."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=list(_ACTIONS), metavar="list|add|remove|passwd")
    parser.add_argument("id", nargs="?", metavar="ID", help="the start of a key's ID suffices")
    add_repository_arguments(parser)
    parser.add_argument("--new-password-file", type=Path, metavar="FILE")
    parser.add_argument("--user", default="", help="for a new key: whose it is (default: yours)")
    parser.add_argument("--host", default="", help="for a new key: where it is used (default: here)")


def run(context: Context) -> int:
    options = context.options
    if (options.action == "remove") != (options.id is not None):
        raise UserError("'remove' takes the ID of a key, and nothing else does; see 'cdr key list'")
    with closing(open_one_repository(context)) as repository:
        _ACTIONS[options.action](context, repository.care())
    return 0


def _list(context: Context, care: RepositoryCare) -> None:
    keys = care.keys()
    context.output.document([_as_json(key) for key in keys])
    rows = [("*" if key.current else " ", key.id[:8], key.user, key.host, _created(key)) for key in keys]
    context.output.line(format_table(("", "id", "user", "host", "created"), rows))


def _add(context: Context, care: RepositoryCare) -> None:
    options = context.options
    id_ = care.add_key(read_new_password(options.new_password_file), options.user, options.host)
    _say(context, f"added key {id_[:8]}", id_)


def _remove(context: Context, care: RepositoryCare) -> None:
    care.remove_key(context.options.id)
    _say(context, f"removed key {context.options.id}", context.options.id)


def _change(context: Context, care: RepositoryCare) -> None:
    id_ = care.change_password(read_new_password(context.options.new_password_file))
    _say(context, f"the password is changed, its key is {id_[:8]}", id_)
    context.output.note("whoever used the old password, or a file that holds it, needs the new one from now on")


_ACTIONS: dict[str, Callable[[Context, RepositoryCare], None]] = {
    "list": _list,
    "add": _add,
    "remove": _remove,
    "passwd": _change,
}


def _say(context: Context, text: str, id_: str) -> None:
    context.output.line(text)
    context.output.summary({"action": context.options.action, "id": id_})


def _as_json(key: KeyInfo) -> dict[str, Any]:
    """A key as restic prints it since 0.17; before, it cut the ID to eight digits."""
    return {
        "current": key.current,
        "id": key.id,
        "userName": key.user,
        "hostName": key.host,
        "created": _created(key),
    }


def _created(key: KeyInfo) -> str:
    """In local time. Nobody vouches for what a key file says, so it may be no time at all."""
    try:
        seconds, _ = parse_time(key.created)
    except FormatError:
        return key.created[:40]
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone():%Y-%m-%d %H:%M:%S}"
