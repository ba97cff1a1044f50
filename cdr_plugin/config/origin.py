"""Where configuration comes from: the file that messages name and relative paths start at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from cdr_plugin.errors import ConfigError, ConfigProblems

KeyPath: TypeAlias = tuple[str | int, ...]
"""Keys from the root of the file; an int counts the tables of an array of tables."""


@dataclass(frozen=True, slots=True)
class Origin:
    """One configuration file. Its lines are looked at only for an error, which costs a sound file
    nothing (with its imports, 10 ms of the 150 that a command may take to start)."""

    file: Path
    text: str = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.file.parent

    def error(self, path: KeyPath, reason: str) -> ConfigError:
        """``cdr.toml:12: tier.hq.store.repository: <reason>``."""
        from .lines import key_lines, line_of

        line = line_of(key_lines(self.text), path)
        where = f"{self.file}:{line}" if line else str(self.file)
        dotted = ".".join(map(str, path))
        return ConfigError(f"{where}: {dotted}: {reason}" if dotted else f"{where}: {reason}")

    def unknown(self, path: KeyPath, known: Iterable[str]) -> ConfigError:
        """An unknown last key, with the nearest of those that would be known there."""
        known = sorted(known)
        near = nearest(str(path[-1]), known)
        advice = f"did you mean '{near}'?" if near else f"known here: {', '.join(known) or 'nothing'}"
        return self.error(path, f"unknown key; {advice}")


@contextmanager
def collecting(found: list[ConfigError]) -> Iterator[None]:
    """What is raised inside is put to what was found before, and the caller goes on with the next thing."""
    try:
        yield
    except ConfigProblems as error:
        found += error.problems
    except ConfigError as error:
        found.append(error)


def raise_all(found: Sequence[ConfigError]) -> None:
    """ConfigError, or ConfigProblems for several; nothing for none."""
    if found:
        raise found[0] if len(found) == 1 else ConfigProblems(found)


def nearest(text: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that was probably meant, if any."""
    import difflib

    return next(iter(difflib.get_close_matches(text, list(known), n=1, cutoff=0.5)), None)
