"""Which versions reach damage: a blob that is known to be damaged, or one that is not there at all."""

from __future__ import annotations

from collections.abc import Collection

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import content_ids, decode_tree, subtree_ids

Blob = tuple[BlobType, BlobId]


class DamageReach:
    """Remembers of each tree whether it reaches damage, so a tree that many versions share is looked at once.

    Memory: one entry for each tree of all versions asked about.
    """

    def __init__(self, reader: RepositoryReader, damaged: Collection[Blob]) -> None:
        self._reader = reader
        self._damaged = damaged
        self._is_hit: dict[BlobId, bool] = {}

    def reaches(self, root: BlobId) -> bool:
        """Does the version with this root tree reach damage?"""
        below: dict[BlobId, list[BlobId]] = {}
        stack = [root]
        while stack:
            id_ = stack[-1]
            if id_ not in self._is_hit and id_ not in below:
                below[id_] = self._look(id_)
            pending = [tree for tree in below.get(id_, ()) if tree not in self._is_hit]
            if id_ not in self._is_hit and pending:
                stack += pending
                continue
            subtrees = below.pop(id_, [])
            self._is_hit.setdefault(id_, any(self._is_hit[tree] for tree in subtrees))
            stack.pop()
        return self._is_hit[root]

    def _look(self, id_: BlobId) -> list[BlobId]:
        """Its subtrees, unless it is hit itself: then nothing below matters."""
        if (BlobType.TREE, id_) not in self._damaged:
            try:
                nodes = decode_tree(self._reader.read(BlobType.TREE, id_))
            except (NotFoundError, IntegrityError):
                nodes = None
            if nodes is not None and not self._is_damaged([BlobId(blob) for blob in content_ids(nodes)]):
                return [BlobId(tree) for tree in subtree_ids(nodes)]
        self._is_hit[id_] = True
        return []

    def _is_damaged(self, content: list[BlobId]) -> bool:
        if any((BlobType.DATA, id_) in self._damaged for id_ in content):
            return True
        return None in self._reader.sizes(BlobType.DATA, content)
