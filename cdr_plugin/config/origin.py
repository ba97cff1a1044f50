"""Where configuration comes from: the file that messages name and relative paths start at."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.errors import ConfigError

from .lines import KeyPath, line_of


@dataclass(frozen=True, slots=True)
class Origin:
    """One configuration file and the lines of its keys."""

    file: Path
    lines: dict[KeyPath, int]

    @property
    def folder(self) -> Path:
        return self.file.parent

    def error(self, path: KeyPath, reason: str) -> ConfigError:
        """``cdr.toml:12: tier.hq.store.repository: <reason>``."""
        line = line_of(self.lines, path)
        where = f"{self.file}:{line}" if line else str(self.file)
        dotted = ".".join(map(str, path))
        return ConfigError(f"{where}: {dotted}: {reason}" if dotted else f"{where}: {reason}")

    def unknown(self, path: KeyPath, known: Iterable[str]) -> ConfigError:
        """An unknown last key, with the nearest of those that would be known there."""
        known = sorted(known)
        near = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.5)
        advice = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known) or 'nothing'}"
        return self.error(path, f"unknown key; {advice}")
