"""Versions in memory, random ones too, and what all of them are read through."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from cdr_plugin.errors import CdrError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node
from tests.restore.memory_reader import MemoryReader, node


class CountingReader(MemoryReader):
    """Remembers each reading of a tree."""

    def __init__(self) -> None:
        super().__init__()
        self.trees: list[BlobId] = []

    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        if type_ is BlobType.TREE:
            self.trees.append(id_)
        return super().read(type_, id_)

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        return super().read_many(type_, list(dict.fromkeys(ids)))

    def sizes(self, type_: BlobType, ids: Sequence[BlobId]) -> Sequence[int | None]:
        return [len(self.blobs[type_, id_]) if (type_, id_) in self.blobs else None for id_ in ids]

    def lose(self, type_: BlobType, id_: BlobId | str) -> None:
        del self.blobs[type_, BlobId(bytes.fromhex(id_)) if isinstance(id_, str) else id_]


class Reports:
    """What could not be read, by path."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}

    def __call__(self, path: str, error: CdrError) -> None:
        self.errors[path] = str(error)


def random_tree(reader: MemoryReader, source: random.Random, depth: int = 3) -> list[Node]:
    """Entries of a small vocabulary, so that two such trees share names, contents and whole folders."""
    entries: list[Node] = []
    for name in sorted(source.sample("abcdef", source.randrange(1, 6))):
        kind = source.choice(("file", "file", "folder", "link"))
        if kind == "folder" and depth:
            entries.append(reader.folder(name.encode(), *random_tree(reader, source, depth - 1)))
        elif kind == "link":
            entries.append(node(name, "symlink", linktarget=source.choice("xy")))
        else:
            data = source.choice((b"", b"one", b"two", bytes(25_000), b"z" * 15_000))
            entries.append(reader.file(name.encode(), data, mode=source.choice((0o600, 0o644))))
    return entries
