"""Finds which files and folders of which versions blobs, trees and packs belong to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import UserError
from cdr_plugin.look.walk import Report, Walk
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node

SHORTEST_PREFIX = 4
_HEX = re.compile(r"[0-9a-f]+").fullmatch


class FoundObject(NamedTuple):
    """A place where a wanted object is used; IDs in hex. ``parent`` is the tree that holds the file,
    empty for a tree."""

    type: BlobType
    id: str
    path: str
    parent: str


def check_prefix(text: str) -> str:
    """``text`` in lower case; UserError unless it is, or begins, an ID."""
    lowered = text.lower()
    if not _HEX(lowered) or not SHORTEST_PREFIX <= len(lowered) <= 64:
        raise UserError(f"{text!r} is no ID; give {SHORTEST_PREFIX} to 64 hex digits of one")
    return lowered


class Ids:
    """IDs, whole or only their beginnings; looked up in one step whatever their number."""

    def __init__(self, texts: Iterable[str]) -> None:
        """UserError for what is no ID."""
        checked = [check_prefix(text) for text in texts]
        self._whole = {text for text in checked if len(text) == 64}
        self._prefixes = {text for text in checked if len(text) < 64}
        self._lengths = sorted({len(text) for text in self._prefixes})

    def __bool__(self) -> bool:
        return bool(self._whole or self._prefixes)

    def __contains__(self, id_: str) -> bool:
        return id_ in self._whole or any(id_[:length] in self._prefixes for length in self._lengths)


class ObjectSearch:
    """Searches one version after the other. Remembers the trees below which nothing was found, at
    about 150 bytes each, and does not read them again wherever they are."""

    def __init__(self, reader: RepositoryReader, blobs: Ids, trees: Ids, report: Report) -> None:
        self._reader = reader
        self._blobs = blobs
        self._trees = trees
        self._report = report
        self._fruitless: set[str] = set()

    def search(self, root: BlobId) -> Iterator[FoundObject]:
        """Every file that holds a wanted blob, once for each, and every folder that is a wanted tree,
        in the order of the walk; ``/`` for ``root``. Errors as those of ``Walk``."""
        hits = 0
        if root.hex() in self._trees:
            hits += 1
            yield FoundObject(BlobType.TREE, root.hex(), "/", "")
        open_ = [(root.hex(), hits)]
        if root.hex() in self._fruitless:
            return
        walk = Walk(self._reader, root, self._report, enters=self._is_promising)
        for path, node in walk:
            while len(open_) > walk.depth:
                self._leave(*open_.pop(), hits)
            if node.type == "dir":
                if node.subtree in self._trees:
                    hits += 1
                    yield FoundObject(BlobType.TREE, node.subtree, path, "")
                if self._is_promising(path, node):
                    open_.append((node.subtree, hits))
            elif node.content and self._blobs:
                for id_ in dict.fromkeys(node.content):
                    if id_ in self._blobs:
                        hits += 1
                        yield FoundObject(BlobType.DATA, id_, path, walk.tree.hex())
        while open_:
            self._leave(*open_.pop(), hits)

    def _is_promising(self, path: str, folder: Node) -> bool:
        return folder.subtree not in self._fruitless

    def _leave(self, tree: str, hits_before: int, hits: int) -> None:
        if hits == hits_before:
            self._fruitless.add(tree)
