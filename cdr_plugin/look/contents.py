"""Streams contents of many files in the order in which they are to be written.

Blobs are fetched window by window, across files: one reading of a pack serves all small files in it,
and a big file is as many windows as it needs. One window is written while the next one is read, so
about three windows are in memory, besides what the reader itself has under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of
from cdr_plugin.read_ahead import read_ahead

WINDOW_BYTES = 16 * 1024 * 1024
WINDOW_STEPS = 16 * 1024

T = TypeVar("T")


class Content:
    """The blobs of a file, and its true size: the sum of theirs, whatever the tree says."""

    __slots__ = ("ids", "size", "sizes")

    def __init__(self, reader: RepositoryReader, node: Node) -> None:
        """FormatError for a node that is no file, NotFoundError for a lost blob."""
        if node.content is None:
            raise FormatError(f"{node.name!r} has no content list")
        self.ids = [blob_id_of(text) for text in node.content]
        self.sizes: list[int] = []
        for id_, size in zip(self.ids, reader.sizes(BlobType.DATA, self.ids) if self.ids else (), strict=True):
            if size is None:
                raise NotFoundError(f"data blob {id_.hex()[:10]} is not in the repository; see 'cdr check'")
            self.sizes.append(size)
        self.size = sum(self.sizes)


class Step(NamedTuple, Generic[T]):
    """Where an item begins, or the next bytes of the item before it."""

    item: T | None
    data: bytes


class _Planned(NamedTuple, Generic[T]):
    item: T | None
    blob: BlobId | None


def stream(reader: RepositoryReader, items: Iterable[tuple[T, Content | None]]) -> Iterator[Step[T]]:
    """For each item a step, then its content, step by step. ``items`` is gone through in another
    thread. Raises what the reader raises: then the content of the last item is incomplete."""
    with read_ahead(_fetched(reader, _windows(items)), ahead=1) as windows:
        for window in windows:
            yield from window


def _windows(items: Iterable[tuple[T, Content | None]]) -> Iterator[list[_Planned[T]]]:
    """Plans of bounded size, counting each blob once."""
    window: list[_Planned[T]] = []
    sizes: dict[BlobId, int] = {}
    room = WINDOW_BYTES
    for item, content in items:
        window.append(_Planned(item, None))
        for id_, size in zip(content.ids, content.sizes, strict=True) if content else ():
            if id_ not in sizes:
                sizes[id_] = size
                room -= size
            window.append(_Planned(None, id_))
            if room <= 0 or len(window) >= WINDOW_STEPS:
                yield window
                window, sizes, room = [], {}, WINDOW_BYTES
        if len(window) >= WINDOW_STEPS:
            yield window
            window, sizes, room = [], {}, WINDOW_BYTES
    yield window


def _fetched(reader: RepositoryReader, windows: Iterator[list[_Planned[T]]]) -> Iterator[list[Step[T]]]:
    for window in windows:
        wanted = list(dict.fromkeys(blob for _, blob in window if blob is not None))
        blobs = dict(reader.read_many(BlobType.DATA, wanted)) if wanted else {}
        yield [Step(item, b"" if blob is None else blobs[blob]) for item, blob in window]
