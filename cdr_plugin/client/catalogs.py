"""Which catalogs a client keeps: those of versions that are not committed are recipes, the newest is compared with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from cdr_plugin.client.state import ClientState
from cdr_plugin.client.states import VersionState

_NAME = re.compile(r"catalog-([0-9]+)-[0-9]+", re.ASCII).fullmatch


def kept_catalogs(state: ClientState) -> list[tuple[int, Path]]:
    """Number of the version and file of each catalog, the newest version first."""
    return sorted(_catalogs(state.folder), reverse=True)


def remove_old_catalogs(state: ClientState) -> None:
    """Remove what is older than the newest committed version: nothing will ever be answered from it, and no
    version that is taken back leaves it as the newest. One that we only follow says nothing of ours."""
    committed = [row.number for row in state.versions() if row.state is VersionState.COMMITTED and row.record]
    for number, path in _catalogs(state.folder):
        if committed and number < committed[-1]:
            path.unlink(missing_ok=True)


def remove_catalogs_from(state: ClientState, number: int) -> None:
    """Remove those of a version that was taken back, and of all behind it."""
    for found, path in _catalogs(state.folder):
        if found >= number:
            path.unlink(missing_ok=True)


def _catalogs(folder: Path) -> Iterator[tuple[int, Path]]:
    for path in folder.iterdir():
        match = _NAME(path.name)
        if match is not None:
            yield int(match[1]), path
