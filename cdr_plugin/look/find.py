"""Finds names in versions by pattern and age, each unchanged folder once for all versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import NamedTuple

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.look.walk import Report, Walk, path_bytes
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node
from cdr_plugin.patterns import Patterns

_DAYS = ("%Y-%m-%d", "%d.%m.%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S", " %H:%M %z", " %H:%M:%S %z")
_TIME_FORMS = (*(day + clock for day in _DAYS for clock in _CLOCKS), "%Y-%m-%dT%H:%M:%S%z")


def parse_moment(text: str) -> tuple[int, int]:
    """Seconds since 1970 and nanoseconds of a date or time as people write it, local unless it says
    otherwise; UserError."""
    for form in _TIME_FORMS:
        try:
            return int(datetime.strptime(text, form).astimezone().timestamp()), 0
        except (ValueError, OverflowError, OSError):
            continue
    raise UserError(f"{text!r} is no time; write it as '2024-05-31', '2024-05-31 14:30' or '2024-05-31 14:30:00'")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names to look for; any pattern will do. Moments are (seconds since 1970, nanoseconds)."""

    patterns: Sequence[str]
    ignore_case: bool = False
    oldest: tuple[int, int] | None = None
    newest: tuple[int, int] | None = None


class _Folder(NamedTuple):
    """A folder on the way to where the walk is."""

    key: bytes
    hits_before: int


class NameSearch:
    """Searches one version after the other. Remembers the folders in which nothing was found, at
    about 100 bytes each, and does not read them again at the same path."""

    def __init__(self, reader: RepositoryReader, wanted: Wanted, report: Report) -> None:
        """UserError for a malformed pattern."""
        self._reader = reader
        self._report = report
        self._wanted = wanted
        # A leading "!" takes back in lists of excludes; here it is a letter.
        literal = ["\\" + pattern if pattern.startswith("!") else pattern for pattern in wanted.patterns]
        self._patterns = Patterns(literal, ignore_case=wanted.ignore_case)
        self._fruitless: set[bytes] = set()

    def search(self, root: BlobId) -> Iterator[tuple[str, Node]]:
        """What is found below ``root``, in the order of the walk. Errors as those of ``Walk``."""
        walk = Walk(self._reader, root, self._report, enters=self._is_promising)
        hits = 0
        open_: list[_Folder] = [_Folder(_key("/", root.hex()), 0)]
        if open_[0].key in self._fruitless:
            return
        for path, node in walk:
            while len(open_) > walk.depth:
                self._leave(open_.pop(), hits)
            if self._patterns.match(path) and self._in_time(node):
                hits += 1
                yield path, node
            if node.type == "dir" and self._is_promising(path, node):
                open_.append(_Folder(_key(path, node.subtree), hits))
        while open_:
            self._leave(open_.pop(), hits)

    def _is_promising(self, path: str, folder: Node) -> bool:
        return self._patterns.may_match_below(path) and _key(path, folder.subtree) not in self._fruitless

    def _leave(self, folder: _Folder, hits: int) -> None:
        if hits == folder.hits_before:
            self._fruitless.add(folder.key)

    def _in_time(self, node: Node) -> bool:
        if self._wanted.oldest is None and self._wanted.newest is None:
            return True
        try:
            time = parse_time(node.mtime)
        except FormatError:
            return False
        oldest, newest = self._wanted.oldest, self._wanted.newest
        return (oldest is None or time >= oldest) and (newest is None or time <= newest)


def _key(path: str, tree: str) -> bytes:
    """Stands for a tree at a path: what matches may depend on both."""
    return blake2b(path_bytes(path) + b"\0" + tree.encode("utf-8", "replace"), digest_size=16).digest()
