"""Registers the ``file:`` transport."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cdr_plugin.contracts import Settings, Transport, TransportPlugin, hookimpl

from .locations import folder_of


class LocalPlugin(TransportPlugin):
    """Opens folders: ``file:/srv/inbox``, ``file:///srv/inbox``, ``/srv/inbox``, ``./inbox``, ``~/inbox``."""

    name = "file"
    schemes = ("file",)

    def open(self, url: str, settings: Settings, *, create: bool = False) -> Transport:
        """The folder as a storage; ``create`` makes it, with missing parents, durably."""
        from .transport import LocalTransport

        return LocalTransport.open(folder_of(url), create=create)

    def local_folder(self, url: str) -> Path | None:
        return folder_of(url)


@hookimpl
def cdr_transports() -> Iterable[TransportPlugin]:
    return [LocalPlugin()]
