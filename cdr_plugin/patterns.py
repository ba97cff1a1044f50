"""Path patterns with restic's meaning, for includes and excludes.

A pattern that starts with ``/`` is anchored; any other matches at any depth. It matches a path or
any folder above it. ``*`` ``?`` ``[a-z]`` ``[^a-z]`` ``\\`` work inside one component, ``**`` stands
for any number of components. ``!pattern`` takes back what patterns before it matched.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cdr_plugin.errors import UserError

_CLASS_CHAR = re.compile(r"\\.|[^\\\]]", re.DOTALL).match


@dataclass(frozen=True, slots=True)
class _Pattern:
    matches: Callable[[str], object]
    reaches: tuple[Callable[[str], object], ...] | None
    """Per component of an anchored pattern, up to its first ``**``; None: may match anywhere."""
    negated: bool


class Patterns:
    """A list of patterns in the order given; paths are ``/a/b``, non-UTF-8 by surrogateescape."""

    def __init__(self, patterns: Iterable[str], *, ignore_case: bool = False) -> None:
        """UserError names a pattern that is malformed."""
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._patterns = [_compile(pattern, flags) for pattern in patterns if pattern]
        self._negates = any(pattern.negated for pattern in self._patterns)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def match(self, path: str) -> bool:
        """Does the list match ``path``?"""
        matched = False
        for pattern in self._patterns:
            if matched == pattern.negated and pattern.matches(path):
                matched = not pattern.negated
                if matched and not self._negates:
                    return True
        return matched

    def may_match_below(self, path: str) -> bool:
        """Could something below the folder ``path`` match?"""
        possible = False
        for pattern in self._patterns:
            if pattern.negated:
                possible = possible and not pattern.matches(path)
            else:
                possible = possible or _reaches(pattern, path)
        return possible


def component_matcher(pattern: str) -> Callable[[str], object]:
    """Matches one name as Go's ``filepath.Match`` does; UserError when ``pattern`` is malformed."""
    return re.compile(_component(pattern, pattern), re.DOTALL).fullmatch


def _reaches(pattern: _Pattern, path: str) -> bool:
    if pattern.reaches is None:
        return True
    return all(matches(name) for matches, name in zip(pattern.reaches, path.split("/")[1:], strict=False))


def _compile(text: str, flags: int) -> _Pattern:
    negated = text.startswith("!")
    cleaned = posixpath.normpath(text[1:] if negated else text)
    anchored = cleaned.startswith("/")
    parts = [part for part in cleaned.split("/") if part]
    pieces = [None if part == "**" else _component(part, text) for part in parts]
    regex = r"\A/" if anchored else r"(?<=/)"
    matches = re.compile(regex + _join(pieces), flags).search
    return _Pattern(matches, _prefix(pieces, flags) if anchored else None, negated)


def _join(pieces: list[str | None]) -> str:
    """A regex for the components, which ends where a component ends; ``None`` is any number."""
    joined = ""
    for piece in pieces:
        # The first lookahead asks for a component at all: "a/*" must not match "a".
        joined += r"(?:[^/]+(?:/|\Z))*" if piece is None else rf"(?!/|\Z){piece}(?:/|\Z)"
    return joined


def _prefix(pieces: list[str | None], flags: int) -> tuple[Callable[[str], object], ...]:
    prefix: list[Callable[[str], object]] = []
    for piece in pieces:
        if piece is None:
            break
        prefix.append(re.compile(piece, flags).fullmatch)
    return tuple(prefix)


def _component(part: str, pattern: str) -> str:
    """The regex of one component, by the rules of Go's ``filepath.Match``."""
    regex, position = "", 0
    while position < len(part):
        char = part[position]
        position += 1
        if char == "*":
            regex += "[^/]*"
        elif char == "?":
            regex += "[^/]"
        elif char == "[":
            piece, position = _character_class(part, position, pattern)
            regex += piece
        elif char == "\\":
            if position == len(part):
                raise _malformed(pattern)
            regex += re.escape(part[position])
            position += 1
        else:
            regex += re.escape(char)
    return regex


def _character_class(part: str, position: int, pattern: str) -> tuple[str, int]:
    """The regex of the class that starts behind ``[``, and where it ends."""
    negated = part.startswith("^", position)
    position += negated
    ranges = ""
    while not (part.startswith("]", position) and ranges):
        low, position = _class_char(part, position, pattern)
        high = low
        if part.startswith("-", position):
            high, position = _class_char(part, position + 1, pattern)
        if low <= high:
            ranges += f"{re.escape(low)}-{re.escape(high)}"
        else:
            ranges = ranges or "\\0-\\0"  # an empty range matches nothing, and no name holds NUL
    return f"(?!/)[{'^' if negated else ''}{ranges}]", position + 1


def _class_char(part: str, position: int, pattern: str) -> tuple[str, int]:
    found = _CLASS_CHAR(part, position)
    if found is None or found.group() == "-":
        raise _malformed(pattern)
    return found.group()[-1], found.end()


def _malformed(pattern: str) -> UserError:
    return UserError(f"pattern {pattern!r} is malformed: check its brackets and backslashes")
