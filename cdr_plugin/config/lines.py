"""On which line of a TOML text each key stands.

``tomllib`` forgets it. The text has been parsed before, so it is sound TOML, and a scan of line
beginnings is enough; keys inside a value (an inline table) count as on the line of the value.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

from .origin import KeyPath

_STRING = re.compile(
    r"""
    \"{3} (?:[^\\]|\\.)*? \"{3}
    | '{3} .*? '{3}
    | "(?:[^"\\\n]|\\.)*"
    | '[^'\n]*'
    | \#[^\n]*
    """,
    re.DOTALL | re.VERBOSE,
)
_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEYS = rf"[ \t]*({_KEY}(?:[ \t]*\.[ \t]*{_KEY})*)[ \t]*"
_HEADER = re.compile(rf"[ \t]*(\[\[?){_KEYS}\]").match
_ASSIGNMENT = re.compile(rf"{_KEYS}=").match
_ONE_KEY = re.compile(_KEY)


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every table header and every key at a line's beginning."""
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in _statements(text):
        if header := _HEADER(line):
            table = _numbered(_split(header[2]), arrays, is_new=header[1] == "[[")
            _note(lines, table, number)
        elif assignment := _ASSIGNMENT(line):
            _note(lines, table + _split(assignment[1]), number)
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of ``path``, or of the nearest thing around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _note(lines: dict[KeyPath, int], path: KeyPath, number: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], number)


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """First lines of headers and assignments; lines inside a value that goes on are left out."""
    outline = _STRING.sub(_blanked, text)
    depth = 0
    # Not splitlines(): that also splits at characters which TOML allows in comments and strings.
    pairs = zip(text.split("\n"), outline.split("\n"), strict=True)
    for number, (line, shape) in enumerate(pairs, start=1):
        if depth == 0 and shape.strip(" \t\r"):
            yield number, line
        depth += sum(map(shape.count, "[{")) - sum(map(shape.count, "]}"))


def _blanked(match: re.Match[str]) -> str:
    """Strings and comments without anything that looks like structure, on as many lines."""
    kept = "\n" * match[0].count("\n")
    return kept if match[0].startswith("#") else f"s{kept}"


def _split(keys: str) -> KeyPath:
    return tuple(map(_bare, _ONE_KEY.findall(keys)))


def _bare(key: str) -> str:
    if key[0] in "\"'":
        unquoted: str = tomllib.loads(f"k = {key}")["k"]
        return unquoted
    return key


def _numbered(path: KeyPath, arrays: dict[KeyPath, int], *, is_new: bool) -> KeyPath:
    """``path`` with the count of the current table after each key that names an array of tables."""
    result: KeyPath = ()
    for position, key in enumerate(path):
        result += (key,)
        if is_new and position == len(path) - 1:
            arrays[result] = arrays.get(result, -1) + 1
        if result in arrays:
            result += (arrays[result],)
    return result
