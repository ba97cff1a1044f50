"""The command line: common options before or behind the command's name, then the command's own."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cdr_plugin import __version__
from cdr_plugin.errors import UserError

from .registry import COMMANDS, Command

_TAKES_NEXT = re.compile(r"-[qv]*[cT]|--config|--tier").fullmatch
"""Common options whose value is the next word."""


class Parser(argparse.ArgumentParser):
    """Reports wrong usage as UserError, so that it looks like every other error and exits with 1
    (2 means a crash, as in restic)."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see '{self.prog} --help')")


def add_common(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Options of every command. ``again``: behind the command's name, where a default would undo
    what stands before it."""
    group = parser.add_argument_group("common options")

    def add(*names: str, default: object, help: str, **options: object) -> None:
        kept = argparse.SUPPRESS if again else default
        group.add_argument(*names, default=kept, help=help, **options)  # type: ignore[arg-type]

    config_help = "configuration (default: $CDR_CONFIG, ./cdr.toml, ~/.config/cdr/cdr.toml)"
    add("-c", "--config", metavar="FILE", type=Path, default=None, help=config_help)
    dest = "tiers_again" if again else "tiers"
    tier_help = "act for this tier only (repeatable; default: every tier in the file)"
    add("-T", "--tier", dest=dest, metavar="NAME", action="append", default=None, help=tier_help)
    add("--json", action="store_true", default=False, help="print JSON documents or lines")
    add("-q", "--quiet", action="store_true", default=False, help="print results and errors only")
    dest = "verbose_again" if again else "verbose"
    verbose_help = "say more; twice: tracebacks of errors"
    add("-v", "--verbose", dest=dest, action="count", default=0, help=verbose_help)


def parse(argv: Sequence[str]) -> tuple[Command | None, argparse.Namespace]:
    """The command and its options; UserError. None: help has been asked for without a command.

    Only the module of the chosen command is imported.
    """
    common, name, own = _split(argv)
    main = _main_parser()
    options = main.parse_args(common)
    if name is None:
        main.print_help()
        return None, options
    command = COMMANDS.get(name)
    if command is None or not command.exists:
        raise UserError(f"there is no command {name!r}{_nearest(name)}; see 'cdr --help'")
    return command, _merged(_parse_own(_command_parser(command), own, options))


def _parse_own(parser: Parser, words: Sequence[str], options: argparse.Namespace) -> argparse.Namespace:
    """Options may stand between arguments too, as restic takes them: ``ls latest --host a /folder``.

    Only where it is needed: argparse's own way for that loses a leading ``--``.
    """
    found, left = parser.parse_known_args(words, argparse.Namespace(**vars(options)))
    return parser.parse_intermixed_args(words, options) if left else found


def _split(argv: Sequence[str]) -> tuple[Sequence[str], str | None, Sequence[str]]:
    """What stands before the command, its name, and what stands behind it, word for word: argparse
    would drop a ``--`` there, and take a file for an option."""
    position = 0
    while position < len(argv):
        if not argv[position].startswith("-"):
            return argv[:position], argv[position], argv[position + 1 :]
        position += 2 if _TAKES_NEXT(argv[position]) else 1
    return argv, None, ()


def _command_parser(command: Command) -> Parser:
    module = command.load()
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser(
        prog=f"cdr {command.name}", description=module.HELP, formatter_class=raw, allow_abbrev=False
    )
    module.add_arguments(parser)
    add_common(parser, again=True)
    return parser


def _main_parser() -> Parser:
    available = [command for command in COMMANDS.values() if command.exists]
    width = max(len(command.name) for command in available)
    listed = "\n".join(f"  {command.name:{width}}  {command.help}" for command in available)
    parser = Parser(
        prog="cdr",
        usage="cdr [common options] COMMAND ...",
        description="Complementary data reduction: backups, tier by tier, into one restic repository.",
        epilog=f"commands:\n{listed}\n\n'cdr COMMAND --help' tells more about one of them.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cdr {__version__}")
    add_common(parser)
    return parser


def _merged(options: argparse.Namespace) -> argparse.Namespace:
    """What stands before and what stands behind the command's name adds up."""
    options.tiers = [*(options.tiers or ()), *(getattr(options, "tiers_again", None) or ())]
    options.verbose += getattr(options, "verbose_again", None) or 0
    return options


def _nearest(name: str) -> str:
    import difflib

    known = [command.name for command in COMMANDS.values() if command.exists]
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
