"""Registers restic repositories; what does the work is imported at the first use."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cdr_plugin.contracts import Repository, RepositoryFormat, RepositoryOptions, Settings, hookimpl


class ResticFormat(RepositoryFormat):
    """restic repositories by local path, with or without ``local:`` before it.

    Settings: ``version`` (1 or 2, for new repositories; default 2).
    """

    name = "restic"

    def open(self, location: str, options: RepositoryOptions) -> Repository:
        from cdr_restic.local import LocalStorage
        from cdr_restic.repository import open_repository

        return open_repository(LocalStorage(location), options)

    def create(self, location: str, options: RepositoryOptions, chunker: Settings) -> Repository:
        from cdr_restic.creating import create_repository
        from cdr_restic.local import LocalStorage

        return create_repository(LocalStorage(location), options, chunker)

    def local_folder(self, location: str) -> Path | None:
        from cdr_restic.local import local_path

        return local_path(location)


@hookimpl
def cdr_repository_formats() -> Iterable[RepositoryFormat]:
    return [ResticFormat()]
