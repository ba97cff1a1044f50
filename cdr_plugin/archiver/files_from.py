"""Paths listed in files: ``--files-from``, ``--files-from-verbatim`` and ``--files-from-raw`` of restic.

``-`` stands for standard input. Patterns are those of Go's ``filepath.Glob``, against the working
directory: nothing crosses a slash, ``**`` is ``*``, and ``*`` matches names with a leading dot.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cdr_plugin.archiver.exclude_file import decode
from cdr_plugin.archiver.mapped import clean
from cdr_plugin.errors import UserError
from cdr_plugin.patterns import component_matcher

_HAS_META = re.compile(r"[*?\[\\]").search


def listed_patterns(file: str, warn: Callable[[str], None]) -> list[str]:
    """What the patterns in ``file`` match, one a line, in their order; blank lines and ``#`` comments are
    skipped. ``warn`` hears of those that match nothing. UserError."""
    found: list[str] = []
    for line in map(str.strip, _lines("--files-from", file)):
        if line and not line.startswith("#"):
            expanded = expand(line)
            if not expanded:
                warn(f"--files-from {file}: pattern {line!r} does not match any file; skipped")
            found += expanded
    return found


def listed_lines(file: str) -> list[str]:
    """The paths in ``file``, one a line, each taken as it stands; UserError."""
    return [line for line in _lines("--files-from-verbatim", file) if line]


def listed_raw(file: str) -> list[str]:
    """The paths in ``file``, each ended by a NUL byte; UserError."""
    data = _read("--files-from-raw", file)
    if not data:
        return []
    *names, rest = data.split(b"\0")
    if rest:
        raise UserError(f"--files-from-raw {file}: the zero byte behind the last path is missing; is the list cut off?")
    if b"" in names:
        raise UserError(f"--files-from-raw {file}: there is an empty path in it")
    return [os.fsdecode(name) for name in names]


def _lines(option: str, file: str) -> Iterator[str]:
    text = decode(f"{option} {file}", _read(option, file))
    for line in text.split("\n"):
        yield line.removesuffix("\r")


def _read(option: str, file: str) -> bytes:
    try:
        if file != "-":
            return Path(file).read_bytes()
        if sys.stdin is None:
            raise UserError(f"{option} -: standard input is closed")
        return sys.stdin.buffer.read()
    except OSError as error:
        raise UserError(f"{option} {file}: {error.strerror}") from None


def expand(pattern: str) -> list[str]:
    """What there is that ``pattern`` matches, folder by folder in ascending order; UserError when it is
    malformed. What cannot be listed matches nothing."""
    for component in pattern.split("/"):
        component_matcher(component)
    return _expand(pattern)


def _expand(pattern: str) -> list[str]:
    if not _HAS_META(pattern):
        return [pattern] if os.path.lexists(pattern) else []
    folder, slash, name = pattern.rpartition("/")
    folder = folder or slash or "."
    folders = _expand(folder) if _HAS_META(folder) else [folder]
    matches = component_matcher(name)
    return [path for folder in folders for path in _in_folder(folder, matches)]


def _in_folder(folder: str, matches: Callable[[str], object]) -> Sequence[str]:
    try:
        names = sorted(filter(matches, os.listdir(folder)), key=os.fsencode)
    except OSError:
        return ()
    return [os.fsdecode(clean(os.fsencode(os.path.join(folder, name)))) for name in names]
