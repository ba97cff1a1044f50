"""The state of a walk through a version: folders in the middle of it, and what their nodes say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import blake2b
from typing import TypeAlias

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.names import unquote_name
from cdr_plugin.model.trees import Node, blob_id_of, check_name
from cdr_plugin.restore.folders import Folder
from cdr_plugin.restore.metadata import Metadata

Inode: TypeAlias = tuple[str, int, int, bytes]
"""Type, device, inode and a digest of the content: names that share them are one file."""


class Level:
    """A folder in the middle of the walk; ``nodes`` are those still to come, the next one last.
    ``metadata`` is None for the target itself. ``complete``: all names of the version were understood."""

    __slots__ = ("_folded", "complete", "folder", "has_temporaries", "metadata", "nodes", "seen")

    def __init__(self, folder: Folder, metadata: Metadata | None, nodes: list[Node]) -> None:
        self.folder = folder
        self.metadata = metadata
        self.nodes = nodes
        self.nodes.reverse()
        self.seen: set[bytes] = set()
        self.complete = True
        self.has_temporaries = any(node.name.startswith(".cdr-restore-") for node in nodes)
        self._folded: set[bytes] = set()

    def siblings(self) -> Iterator[BlobId]:
        """Trees of the folders still to come."""
        for node in reversed(self.nodes):
            if node.subtree:
                yield blob_id_of(node.subtree)

    def name_of(self, node: Node) -> bytes:
        """The raw name, once; FormatError when it is no name of a file, or comes again."""
        try:
            name = unquote_name(node.name)
            check_name(name)
        except FormatError:
            self.complete = False
            raise
        if name in self.seen:
            raise FormatError("the tree lists this name twice; the first one counts")
        self.seen.add(name)
        return name

    def has_twin(self, name: bytes) -> bool:
        """Was a name before this one that differs only in case? To be asked once for each."""
        folded = name.lower() if name.isascii() else os.fsdecode(name).casefold().encode("utf-8", "surrogateescape")
        if folded in self._folded:
            return True
        self._folded.add(folded)
        return False


def inode_of(node: Node) -> Inode | None:
    """What names of the same file share; None for a file with one name. The content takes part:
    an inode number that was used again while the backup ran must not join two files."""
    if node.links < 2 or not node.inode:
        return None
    content = blake2b("".join(node.content or ()).encode(), digest_size=16).digest()
    return node.type, node.device_id, node.inode, content
