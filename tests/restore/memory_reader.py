"""A repository in memory, and trees built by hand: what a restore sees, without a format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id, verify_blob
from cdr_plugin.model.names import quote_name
from cdr_plugin.model.trees import Node, encode_tree
from cdr_plugin.reporter import Reporter

TIME = "2020-02-03T04:05:06.000000007Z"
TIME_NS = 1580702706_000000007
BLOB_BYTES = 10_000
"""Contents are cut here, so that small tests have files of several blobs."""


class MemoryReader(RepositoryReader):
    """Blobs in a dict; delivered in the order of their IDs, which is no order of files."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[BlobType, BlobId], bytes] = {}
        self.requested: list[BlobId] = []

    def add(self, type_: BlobType, data: bytes) -> str:
        id_ = blob_id(data)
        self.blobs[type_, id_] = data
        return id_.hex()

    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        data = self.blobs.get((type_, id_))
        if data is None:
            raise NotFoundError(f"blob {id_.hex()[:10]} is not in the repository")
        verify_blob(type_, id_, data)
        return data

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        for id_ in sorted(ids):
            if type_ is BlobType.DATA:
                self.requested.append(id_)
            yield id_, self.read(type_, id_)

    def content(self, data: bytes) -> list[str]:
        """Store a file's content; its blob list."""
        parts = [data[at : at + BLOB_BYTES] for at in range(0, len(data), BLOB_BYTES)]
        return [self.add(BlobType.DATA, part) for part in parts]

    def file(self, name: bytes | str, data: bytes = b"", **fields: object) -> Node:
        return node(name, "file", **{"content": self.content(data), "size": len(data), "mode": 0o644, **fields})

    def folder(self, name: bytes | str, *nodes: Node, **fields: object) -> Node:
        return node(name, "dir", **{"subtree": self.tree(*nodes).hex(), "mode": 0o755 | 1 << 31, **fields})

    def tree(self, *nodes: Node) -> BlobId:
        return BlobId(bytes.fromhex(self.add(BlobType.TREE, encode_tree(nodes))))


def node(name: bytes | str, type_: str, **fields: object) -> Node:
    """A node that belongs to root; a ``str`` name is taken as quoted already."""
    quoted = name if isinstance(name, str) else quote_name(name)
    base: Mapping[str, object] = {"mtime": TIME, "atime": TIME, "ctime": TIME, "uid": 0, "gid": 0, "content": None}
    return Node(name=quoted, type=type_, **{**base, **fields})  # type: ignore[arg-type]


class Listener(Reporter):
    """Remembers errors and notes."""

    def __init__(self) -> None:
        self.errors: dict[str, str] = {}
        self.notes: list[str] = []
        self.items: list[tuple[str, str, int]] = []
        self.last: dict[str, int | float | str] = {}

    def progress(self, **fields: int | float | str) -> None:
        self.last = fields

    def error(self, item: str, during: str, error: Exception | str) -> None:
        assert during == "restore"
        self.errors[item] = str(error)

    def item(self, action: str, item: str, size: int) -> None:
        self.items.append((action, item, size))

    def note(self, text: str) -> None:
        self.notes.append(text)
