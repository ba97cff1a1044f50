"""A storage as one client sees it: named as per client, whatever the layout there is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cdr_plugin.contracts import ObjectInfo, Transport, Travelled
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.layout import Layout, placed


class PlacedTransport(Transport):
    """``inner``, where objects lie as ``layout`` says. It is listed as it is."""

    def __init__(self, inner: Transport, layout: Layout, group: str) -> None:
        """``group``: the pseudonym of the client's group."""
        self.abilities = inner.abilities
        self._inner = inner
        self._layout = layout
        self._group = group

    def _place(self, name: str) -> str:
        return placed(name, self._layout, self._group)

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        self._inner.put(self._place(name), data, overwrite=overwrite)

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        return self._inner.put_file(self._place(name), path, moved)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._inner.get(self._place(name), offset, length)

    def get_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> None:
        self._inner.get_file(self._place(name), path, moved)

    def stat(self, name: str) -> ObjectInfo:
        return replace(self._inner.stat(self._place(name)), name=name)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(folder)

    def delete(self, name: str) -> None:
        self._inner.delete(self._place(name))

    def free_space(self) -> int | None:
        return self._inner.free_space()

    def close(self) -> None:
        self._inner.close()
