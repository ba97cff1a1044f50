"""Options of every command that opens repositories, and restic's variables behind them.

Options beat variables. For a repository of the configuration only options count: what the file says
is not changed by a variable that was meant for another repository.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.errors import UserError
from cdr_plugin.passwords import read_password

from .go_durations import go_duration

if TYPE_CHECKING:
    from cdr_plugin.reporter import Reporter

_MIB = 1024 * 1024
_MAX_LOCATION_BYTES = 64 * 1024


def add_repository_arguments(parser: argparse.ArgumentParser, *, writes: bool = False) -> None:
    """``writes``: with options of what the command writes, too."""
    group = parser.add_argument_group("repository")
    add = group.add_argument
    add("--repo", "-r", metavar="LOCATION", help="a repository, without any configuration file")
    add("--repository-file", type=Path, metavar="FILE", help="a file that holds the location")
    add("--password-file", "-p", type=Path, metavar="FILE")
    add("--password-command", metavar="COMMAND", help="a command that prints the password")
    add("--key-hint", metavar="KEY", help="the start of the ID of the key to try first")
    add("--group", "-G", help="the repository of this group only")
    add("--no-lock", action="store_true", help="take no lock for reading, as where the storage is read-only")
    retry_help = "how long to try again while the repository is locked (default: not at all)"
    add("--retry-lock", type=go_duration, default=0.0, metavar="DURATION", help=retry_help)
    if writes:
        add("--compression", metavar="MODE", help="off, auto or max (default: auto)")
        add("--pack-size", type=_pack_size, metavar="MIB", help="of new packs (default: 16)")


def given_location(options: argparse.Namespace, environment: Mapping[str, str] = os.environ) -> str | None:
    """The repository that options or variables name; None when they name none. UserError."""
    if options.repo and options.repository_file:
        raise UserError("both --repo and --repository-file are given; choose one")
    if options.repository_file:
        return _read_location(options.repository_file, "--repository-file")
    if options.repo:
        return str(options.repo)
    if environment.get("RESTIC_REPOSITORY"):
        return environment["RESTIC_REPOSITORY"]
    if environment.get("RESTIC_REPOSITORY_FILE"):
        return _read_location(Path(environment["RESTIC_REPOSITORY_FILE"]), "RESTIC_REPOSITORY_FILE")
    return None


def given_options(
    options: argparse.Namespace, reporter: Reporter, environment: Mapping[str, str] = os.environ
) -> RepositoryOptions:
    """How to open the repository that ``given_location`` names; UserError."""
    text = environment.get("RESTIC_PACK_SIZE")
    try:
        pack_size = _pack_size(text) if text else 0
    except argparse.ArgumentTypeError as error:
        raise UserError(f"RESTIC_PACK_SIZE: {error}") from None
    named = {
        "key_hint": environment.get("RESTIC_KEY_HINT"),
        "compression": environment.get("RESTIC_COMPRESSION"),
        "pack_size": pack_size,
    }
    changes: dict[str, Any] = {name: value for name, value in named.items() if value}
    return adjusted(RepositoryOptions(_password(options), reporter=reporter, **changes), options)


def adjusted(options: RepositoryOptions, given: argparse.Namespace) -> RepositoryOptions:
    """``options`` with what the command line says about them."""
    changes: dict[str, Any] = {"retry_lock_s": given.retry_lock, "no_lock": given.no_lock}
    if given.password_file or given.password_command:
        changes["password"] = _password(given)
    for name in ("key_hint", "compression", "pack_size"):
        if getattr(given, name, None):
            changes[name] = getattr(given, name)
    return dataclasses.replace(options, **changes)


def _password(given: argparse.Namespace) -> Callable[[], str]:
    return lambda: read_password(given.password_file, given.password_command)


def _read_location(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_LOCATION_BYTES).decode().strip()
    except OSError as error:
        raise UserError(f"{what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{what} {path}: it is no UTF-8 text") from None
    if not text:
        raise UserError(f"{what} {path}: it is empty")
    return text


def _pack_size(text: str) -> int:
    """Bytes of a number of MiB, as restic takes it; 0 means the default."""
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"expected a number of MiB such as 16, not {text!r}")
    return int(text) * _MIB
