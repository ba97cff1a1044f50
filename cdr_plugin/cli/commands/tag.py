"""``cdr tag``: change tags of versions."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import msgspec

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import add_filter_arguments, add_repository_arguments
from cdr_plugin.cli.selecting import Selection, add_id_arguments, open_all, select
from cdr_plugin.cli.work import every
from cdr_plugin.errors import UserError
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.retention.tags import RESERVED, reserved_tags, split_tags, user_tags
from cdr_plugin.top.pins import is_pin

HELP = f"""Change the tags of the versions that are named, or of all that the filters leave. Each changed version
gets a new ID; 'original' remembers the first one. Takes the exclusive lock.

Tags that begin with '{RESERVED}' belong to the tiers: they stay as they are, and cannot be set or removed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_id_arguments(parser)
    for name, help_ in (
        ("--set", "have these tags instead of the present ones; '' for none"),
        ("--add", "have these tags, too"),
        ("--remove", "do not have these tags"),
    ):
        parser.add_argument(name, action="append", default=[], metavar="TAG[,TAG]", help=help_)
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    options = context.options
    change = _change(options)
    done: list[tuple[str, str]] = []
    with ExitStack() as stack:
        opened, code = open_all(context, stack, "tag")
        selections = select(opened, options)
        _refuse_pins(selections)
        jobs = [(s.opened.repository.location, partial(_rewrite, s, change, done)) for s in selections]
        code = (every(context, "tag", jobs) if jobs else 0) or code
    for old, new in done:
        context.output.document({"message_type": "changed", "old_snapshot_id": old, "new_snapshot_id": new})
    context.output.line(f"changed the tags of {len(done)} versions" if done else "no version was changed")
    context.output.summary({"changed_snapshots": len(done)})
    return code


class Change:
    """What becomes of the user's tags: ``instead`` if it is given, else what is added and removed."""

    def __init__(self, instead: Sequence[str] | None, add: Sequence[str], remove: Sequence[str]) -> None:
        self._instead = instead
        self._add = add
        self._remove = frozenset(remove)

    def apply(self, tags: Sequence[str]) -> list[str]:
        if self._instead is not None:
            return list(dict.fromkeys(self._instead))
        return [tag for tag in dict.fromkeys((*tags, *self._add)) if tag not in self._remove]


def _change(options: argparse.Namespace) -> Change:
    given = [_tags(texts) for texts in (options.set, options.add, options.remove)]
    if not (options.set or options.add or options.remove):
        raise UserError("nothing to change: give --set, or --add and --remove")
    if options.set and (options.add or options.remove):
        raise UserError("--set gives all tags, so --add and --remove cannot stand beside it")
    reserved = next((tag for tags in given for tag in tags if tag.startswith(RESERVED)), None)
    if reserved is not None:
        raise UserError(f"tag {reserved!r}: tags that begin with {RESERVED!r} belong to the tiers; choose another")
    return Change(given[0] if options.set else None, given[1], given[2])


def _tags(texts: Sequence[str]) -> list[str]:
    return [tag for text in texts for tag in split_tags(text) if tag]


def _refuse_pins(selections: Sequence[Selection]) -> None:
    for selection in selections:
        for version in selection.versions:
            if is_pin(version.snapshot):
                raise UserError(f"version {version.id[:8]} is a pin of CDR, which keeps its tags; nothing was changed")


def _rewrite(selection: Selection, change: Change, done: list[tuple[str, str]]) -> int:
    changed: dict[str, Snapshot] = {}
    for version in selection.versions:
        old = version.snapshot
        tags = [*change.apply(user_tags(old)), *reserved_tags(old)]
        if set(tags) != set(old.tags):
            changed[version.id] = msgspec.structs.replace(old, tags=tags, original=old.original or version.id)
    if changed:
        done.extend(selection.opened.repository.care().replace_versions(changed).items())
    return 0
