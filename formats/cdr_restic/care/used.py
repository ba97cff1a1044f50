"""Which blobs the trees of versions reach."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec

from cdr_plugin.errors import FormatError, IntegrityError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.reporter import Reporter
from cdr_restic.files import type_of
from cdr_restic.index import MemoryIndex
from cdr_restic.reading import ResticReader

USED = 1
"""The flag of the first row of a used blob."""
_ID_BYTES = 32
_BATCH = 64 * 1024
"""Trees asked for at once: about 10 MB of IDs and places, and most levels in one go."""
_SHOWN = 5

_Id = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class _Node(msgspec.Struct):
    """Of a node what names blobs."""

    content: list[_Id] | None = None
    subtree: _Id | None = None


class _Tree(msgspec.Struct):
    nodes: list[_Node]


_decoder = msgspec.json.Decoder(_Tree)


def mark_used(
    index: MemoryIndex, reader: ResticReader, roots: Iterable[str], flags: bytearray, reporter: Reporter
) -> None:
    """Set USED for every blob that the trees named by ``roots`` (hex) reach, these included.

    Level by level, each tree once. IntegrityError when a tree cannot be read, or a blob is not in the index.
    """
    walk = _Walk(index, flags)
    level = walk.new_trees("".join(roots))
    trees = 0
    while level:
        below = bytearray()
        for begin in range(0, len(level), _BATCH * _ID_BYTES):
            batch = level[begin : begin + _BATCH * _ID_BYTES]
            ids = [BlobId(bytes(batch[at : at + _ID_BYTES])) for at in range(0, len(batch), _ID_BYTES)]
            for id_, data in _reading(reader, ids):
                below += walk.visit(id_, data)
                trees += 1
                reporter.progress(trees_walked=trees)
        level = below
    walk.raise_missing()


class _Walk:
    """Remembers what is missing, so that one error names it all."""

    def __init__(self, index: MemoryIndex, flags: bytearray) -> None:
        self._index = index
        self._flags = flags
        self._missing = 0
        self._shown: list[str] = []

    def visit(self, id_: bytes, data: bytes) -> bytearray:
        """Mark what a tree names; the IDs (end to end) of its folders that were not seen before."""
        try:
            nodes = _decoder.decode(data).nodes
            content = "".join(["".join(node.content) for node in nodes if node.content])
            subtrees = "".join([node.subtree for node in nodes if node.subtree])
            missing = self._index.mark(BlobType.DATA, _raw(content), self._flags, USED)
            new = self.new_trees(subtrees)
        except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError, FormatError) as error:
            raise IntegrityError(f"tree {id_.hex()[:10]} is damaged: {error}; {_ADVICE}") from None
        if missing:
            self._note(BlobType.DATA, missing)
        return new

    def new_trees(self, hex_ids: str) -> bytearray:
        """Mark these trees; the IDs (end to end) of those that were not marked before."""
        ids = _raw(hex_ids)
        new = bytearray()
        for at, row in enumerate(self._index.find_rows(BlobType.TREE, ids)):
            id_ = ids[at * _ID_BYTES : (at + 1) * _ID_BYTES]
            if row < 0:
                self._note(BlobType.TREE, [id_])
            elif not self._flags[row] & USED:
                self._flags[row] |= USED
                new += id_
        return new

    def raise_missing(self) -> None:
        if self._missing:
            more = ", ..." if self._missing > len(self._shown) else ""
            raise IntegrityError(
                f"{self._missing} blobs that versions use are in no index: {', '.join(self._shown)}{more}; {_ADVICE}"
            )

    def _note(self, type_: BlobType, ids: list[bytes]) -> None:
        self._missing += len(ids)
        names = [f"{type_.name.lower()} {id_.hex()[:10]}" for id_ in ids[:_SHOWN]]
        self._shown += names[: _SHOWN - len(self._shown)]


_ADVICE = "nothing was changed; see 'cdr check', then 'cdr repair'"


def _raw(hex_ids: str) -> bytes:
    raw = bytes.fromhex(hex_ids)
    if 2 * len(raw) != len(hex_ids):  # fromhex skips spaces
        raise FormatError("it names a blob by something that is no ID")
    return raw


def _reading(reader: ResticReader, ids: list[BlobId]) -> Iterable[tuple[BlobId, bytes]]:
    try:
        yield from reader.read_many(BlobType.TREE, ids)
    except IntegrityError as error:
        raise type_of(error)(f"{error}; nothing was changed") from None
