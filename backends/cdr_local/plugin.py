"""Registers the ``file:`` transport."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cdr_plugin.contracts import Settings, Transport, TransportPlugin, hookimpl
from cdr_plugin.errors import ConfigError

from .locations import folder_of


class LocalPlugin(TransportPlugin):
    """Opens folders: ``file:/srv/inbox``, ``file:///srv/inbox``, ``/srv/inbox``, ``./inbox``, ``~/inbox``."""

    name = "file"
    schemes = ("file",)

    def open(self, url: str, settings: Settings, *, create: bool = False) -> Transport:
        """The folder as a storage; ``create`` makes it, with missing parents, durably. Settings: ``links``
        (default true): a hard link instead of a copy where both ends are on one file system."""
        from .transport import LocalTransport

        return LocalTransport.open(folder_of(url), create=create, links=_links(settings))

    def local_folder(self, url: str) -> Path | None:
        return folder_of(url)


def _links(settings: Settings) -> bool:
    links = settings.get("links", True)
    if not isinstance(links, bool) or set(settings) - {"links"}:
        raise ConfigError(f"file: settings {dict(settings)!r}: there is only 'links', which is true or false")
    return links


@hookimpl
def cdr_transports() -> Iterable[TransportPlugin]:
    return [LocalPlugin()]
