"""Which entries of a folder are left out, by the rules of ``restic backup``."""

from __future__ import annotations

import os
import posixpath
import re
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cdr_plugin.errors import UserError
from cdr_plugin.patterns import Patterns

CACHES = "CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55"
"""What ``--exclude-caches`` stands for, as an ``--exclude-if-present``."""

_SIZE = re.compile(r"(\d+)([bBkKmMgGtT]?)").fullmatch
_UNIT = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_MULTIPLE = re.compile(r"/|^\*\*$").search


def parse_size(text: str) -> int:
    """Bytes of a size such as ``500``, ``64k``, ``10M``, ``2G``; UserError when it is none."""
    match = _SIZE(text.strip())
    if match is None:
        raise UserError(f"{text!r} is not a size: write a whole number and one of k, M, G, T")
    return int(match[1]) * _UNIT[match[2].lower()]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExcludeRules:
    """``--exclude``, ``--iexclude``, ``--exclude-if-present`` (``file[:header]``) and
    ``--exclude-larger-than`` (bytes). Patterns may match any part of an absolute path."""

    patterns: Sequence[str] = ()
    patterns_ignoring_case: Sequence[str] = ()
    if_present: Sequence[str] = ()
    caches: bool = False
    larger_than: int | None = None


@dataclass(frozen=True, slots=True)
class _Tag:
    """A file whose presence excludes everything else in its folder."""

    name: bytes
    header: bytes

    def is_in(self, folder: bytes, shown: bytes, warn: Callable[[str], None]) -> bool:
        """Is it in ``folder``, with its header? A tag that does not say what it should is warned of."""
        path, said = os.path.join(folder, self.name), display(os.path.join(shown, self.name))
        try:
            os.lstat(path)
            if not self.header:
                return True
            with open(path, "rb", opener=_open_tag) as file:
                found = file.read(len(self.header))
        except FileNotFoundError:
            return False
        except OSError as error:
            warn(f"{said}: exclusion tag cannot be read ({error.strerror}); not excluding")
            return False
        if found != self.header:
            warn(f"{said}: exclusion tag has another signature; not excluding")
        return found == self.header


def _open_tag(path: str, flags: int) -> int:
    # A fifo that bears the name of a tag must not stop the run.
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _parse_tag(text: str) -> _Tag:
    name, _, header = text.partition(":")
    if not name or "/" in name:
        raise UserError(f"{text!r}: give the name of an exclusion tag file as NAME or NAME:HEADER")
    return _Tag(os.fsencode(name), os.fsencode(header))


def display(path: bytes) -> str:
    """A path for people: what is not UTF-8 as ``\\xNN``."""
    return path.decode("utf-8", "backslashreplace")


class _PatternList:
    """One list of patterns, asked folder by folder.

    The parents of an entry have been asked before, so without negation only matches that end at the
    entry itself count. Patterns of one component are tried on all names of a folder at once.
    """

    def __init__(self, patterns: Sequence[str], ignore_case: bool) -> None:
        self._all = Patterns(patterns, ignore_case=ignore_case)
        self._negates = any(pattern.startswith("!") for pattern in patterns)
        single = [pattern for pattern in patterns if not _MULTIPLE(pattern)]
        self._single = Patterns(single, ignore_case=ignore_case)
        self._multiple = [
            (Patterns([pattern], ignore_case=ignore_case), Patterns([_tail(pattern)], ignore_case=ignore_case))
            for pattern in patterns
            if _MULTIPLE(pattern)
        ]

    def match(self, path: str) -> bool:
        return self._all.match(path)

    def names(self, folder: str, joined: str) -> set[int]:
        """Positions of the entries of ``folder`` that match, given that ``folder`` does not.

        ``joined``: a slash before each name, so that one search tells whether any name matches.
        """
        if self._negates:
            return _matching(self._all, folder, joined)
        found: set[int] = set()
        if self._single and self._single.match(joined):
            found |= _matching(self._single, "", joined)
        for pattern, tail in self._multiple:
            if pattern.may_match_below(folder) and tail.match(joined):
                found |= _matching(pattern, folder, joined)
        return found


def _tail(pattern: str) -> str:
    """The last component of a pattern: without a match of it among the names none of them matches."""
    return posixpath.normpath(pattern).rpartition("/")[2] or "**"


def _matching(patterns: Patterns, folder: str, joined: str) -> set[int]:
    names = joined[1:].split("/")
    return {i for i, name in enumerate(names) if patterns.match(f"{folder}/{name}")}


class Excluder:
    """The rules, ready for use; UserError names a malformed one. ``warn`` hears of odd tag files."""

    def __init__(self, rules: ExcludeRules, warn: Callable[[str], None]) -> None:
        lists = ((rules.patterns, False), (rules.patterns_ignoring_case, True))
        self._patterns = [_PatternList(patterns, fold) for patterns, fold in lists if patterns]
        tags = [*rules.if_present, CACHES] if rules.caches else rules.if_present
        self._tags = [_parse_tag(tag) for tag in tags]
        self._warn = warn
        self.larger_than = rules.larger_than

    @property
    def by_name(self) -> bool:
        """Is there any rule about names?"""
        return bool(self._patterns or self._tags)

    def target(self, shown: bytes, folder: bytes) -> bool:
        """Is the target with the absolute path ``shown`` excluded by its name? It stands in ``folder``."""
        text = os.fsdecode(shown)
        if any(patterns.match(text) for patterns in self._patterns):
            return True
        shown_in, name = os.path.split(shown)
        return any(tag.name != name and tag.is_in(folder, shown_in, self._warn) for tag in self._tags)

    def names(self, shown: bytes, path: bytes, names: Sequence[bytes]) -> set[int]:
        """Positions in ``names`` (ascending) that are excluded, in a folder that is not: patterns see it
        as ``shown``, its tags are at ``path``."""
        found: set[int] = set()
        if self._patterns and names:
            joined = os.fsdecode(b"/" + b"/".join(names))
            for patterns in self._patterns:
                found |= patterns.names(os.fsdecode(shown), joined)
        for tag in self._tags:
            position = bisect_left(names, tag.name)
            if position < len(names) and names[position] == tag.name and tag.is_in(path, shown, self._warn):
                found.update(range(position))
                found.update(range(position + 1, len(names)))
        return found
