"""Storages of another machine: ``far:`` URLs, whose transport is nothing but the contract's least.

No links, no resuming, no shortcut of a local folder: each object travels whole, and may be cut off. What is put is
counted, and faults strike as planned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from cdr_local.plugin import LocalPlugin
from cdr_plugin.contracts import ObjectInfo, Settings, Transport, Travelled
from cdr_plugin.errors import RemoteError
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.plugins import Plugins
from cdr_plugin.transports.faults import Fault
from tests.support.faulty import _SharedFaults

SCHEME = "far:"


class Far(Transport):
    """The least that the contract asks for, over a folder."""

    def __init__(self, inner: Transport, url: str, puts: Counter[tuple[str, str]]) -> None:
        self._inner = inner
        self._url = url
        self._puts = puts

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        self._puts[self._url, name] += 1
        self._inner.put(name, data, overwrite=overwrite)

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        """Byte by byte, as it were: a cut strikes in the middle, and nothing of it is there."""
        data = path.read_bytes()
        try:
            for at in range(0, len(data), 4096):
                moved(len(data[at : at + 4096]))
        except RemoteError:
            self._puts[self._url, name] += 1
            raise
        self.put(name, data)
        return 0

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.get(name, offset, length)

    def stat(self, name: str) -> ObjectInfo:
        return self._inner.stat(name)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(folder)

    def delete(self, name: str) -> None:
        self._inner.delete(name)

    def close(self) -> None:
        self._inner.close()


class FarPlugins(Plugins):
    """The installed plugins, and ``far:``. ``puts`` counts by URL and name, begun ones included."""

    def __init__(self, faults: list[Fault] | None = None) -> None:
        super().__init__()
        self.faults: list[Fault] = [] if faults is None else faults
        self.puts: Counter[tuple[str, str]] = Counter()

    def transport(self, url: str, settings: Settings | None = None, *, create: bool = False) -> Transport:
        if not url.startswith(SCHEME):
            return super().transport(url, settings, create=create)
        inner = LocalPlugin().open(url.removeprefix(SCHEME), {"links": False}, create=create)
        return _SharedFaults(Far(inner, url, self.puts), self.faults)
