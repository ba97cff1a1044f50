"""The versions that a command means: by ID, or by filters, in one repository or several."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial

from cdr_plugin.contracts import Repository, StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.model.times import parse_time
from cdr_plugin.top.pins import is_pin

from .context import Context
from .repositories import matches, repositories_to_open
from .work import every

_SHORTEST_PREFIX = 4


@dataclass(frozen=True, slots=True)
class Opened:
    """An open repository with all that it held then, pins included, oldest first."""

    repository: Repository
    versions: Sequence[StoredVersion]


@dataclass(frozen=True, slots=True)
class Selection:
    """Versions of one repository, oldest first."""

    opened: Opened
    versions: Sequence[StoredVersion]


def add_id_arguments(parser: argparse.ArgumentParser, help_: str = "") -> None:
    parser.add_argument("ids", nargs="*", metavar="ID", help=help_ or "an ID, the start of one, or 'latest'")


def add_long_filter_arguments(parser: argparse.ArgumentParser) -> None:
    """The filters, where the letters stand for something else."""
    parser.add_argument("--client", "--host", dest="hosts", action="append", default=[], metavar="NAME")
    parser.add_argument("--path", dest="paths", action="append", default=[], metavar="PATH")
    parser.add_argument("--tag", dest="tags", action="append", default=[], metavar="TAG[,TAG]")


def has_filter(options: argparse.Namespace) -> bool:
    return bool(options.hosts or options.paths or options.tags)


def open_all(context: Context, stack: ExitStack, what: str) -> tuple[list[Opened], int]:
    """Every repository that is meant, closed by ``stack``, and the exit code of those that could not be
    opened: of several, their errors are told and the others go on; a single one's is raised."""
    found: list[Opened] = []

    def open_one(open_: Callable[[], Repository]) -> int:
        repository = stack.enter_context(closing(open_()))
        found.append(Opened(repository, repository.versions()))
        return 0

    jobs = [(location, partial(open_one, open_)) for location, open_ in repositories_to_open(context)]
    return found, every(context, what, jobs)


def select(opened: Sequence[Opened], options: argparse.Namespace, *, pins: bool = False) -> list[Selection]:
    """What ``options.ids`` name, or all that the filters leave; a selection for each repository, perhaps
    empty. Pins are meant by ID, and with ``pins``. UserError for an ID that is none, or several."""
    if not options.ids:
        return [Selection(one, [v for v in one.versions if _is_meant(v, options, pins)]) for one in opened]
    named = {_resolve(opened, text, options, pins) for text in options.ids}
    return [
        Selection(one, [version for version in one.versions if (number, version.id) in named])
        for number, one in enumerate(opened)
    ]


def _is_meant(version: StoredVersion, options: argparse.Namespace, pins: bool) -> bool:
    return (pins or not is_pin(version.snapshot)) and matches(version, options)


def _resolve(opened: Sequence[Opened], text: str, options: argparse.Namespace, pins: bool) -> tuple[int, str]:
    """The number of a repository, and a full ID in it."""
    everything = [(number, version) for number, one in enumerate(opened) for version in one.versions]
    if text == "latest":
        found = [pair for pair in everything if _is_meant(pair[1], options, pins)]
        if not found:
            raise UserError("'latest': no version fits; see 'cdr snapshots'")
        number, version = max(found, key=lambda pair: parse_time(pair[1].snapshot.time))
        return number, version.id
    found = [pair for pair in everything if pair[1].id.startswith(text.lower())]
    if len(found) != 1 or len(text) < _SHORTEST_PREFIX:
        problem = "no version" if not found else "more than one version" if len(found) > 1 else "too short an ID"
        raise UserError(f"{text!r}: {problem}; see 'cdr snapshots'")
    number, version = found[0]
    return number, version.id
