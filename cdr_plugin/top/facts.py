"""Facts of a version for its client: every folder's path and tree, in the order of a catalog.

::

    record: path length u32, tree length u64, path, tree      big-endian; a stream without end mark

Paths are those in the version, without a leading slash; folders come after their subfolders, names
ascend as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.names import unquote_name
from cdr_plugin.model.trees import Node, decode_tree
from cdr_plugin.parcel.limits import MAX_PATH_CHARS

MAX_FACTS_BYTES = 8 << 30
"""About 25 million files. A tree may name the same subtree many times over, so what a client made can be
astronomically large when it is written out."""

RECORD = struct.Struct(">IQ")

ReadTree = Callable[[BlobId], bytes]
"""NotFoundError, IntegrityError."""


def iter_facts(root: BlobId, read: ReadTree) -> Iterator[bytes]:
    """The stream in pieces; it ends early when it would become longer than ``MAX_FACTS_BYTES``.

    What cannot be read is left out: the client reads those files again. Memory: one folder's entries
    per level.
    """
    left = MAX_FACTS_BYTES
    stack = [_Folder(b"", root, read)]
    while stack:
        folder = stack[-1]
        below = next(folder.subfolders, None)
        if below is not None:
            path, id_ = below
            if len(path) <= MAX_PATH_CHARS:
                stack.append(_Folder(path, id_, read))
            continue
        stack.pop()
        if folder.tree is None:
            continue
        left -= RECORD.size + len(folder.path) + len(folder.tree)
        if left < 0:
            return
        yield RECORD.pack(len(folder.path), len(folder.tree)) + folder.path
        yield folder.tree


class _Folder:
    """A folder on the way: its tree, None where that cannot be had, and the subfolders still to come."""

    def __init__(self, path: bytes, id_: BlobId, read: ReadTree) -> None:
        self.path = path
        self.tree: bytes | None = None
        self.subfolders: Iterator[tuple[bytes, BlobId]] = iter(())
        try:
            tree = read(id_)
            subfolders = sorted(_subfolders(path, decode_tree(tree)))
        except (NotFoundError, IntegrityError, ValueError):
            return
        self.tree = tree
        self.subfolders = iter(subfolders)


def _subfolders(path: bytes, nodes: list[Node]) -> Iterator[tuple[bytes, BlobId]]:
    prefix = path + b"/" if path else b""
    for node in nodes:
        if node.subtree:
            try:
                yield prefix + unquote_name(node.name), BlobId(bytes.fromhex(node.subtree))
            except FormatError:
                continue
