"""A sampled restore: some files of a version, chosen at random, are read back whole and verified.

Each walk goes from the root down a random way, so that a version of any size costs the same. Files of small
folders near the root are met more often than others; over many checks all are met.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from cdr_plugin.contracts import RepositoryPass, RepositoryReader
from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, decode_tree

WALKS = 16
"""Of each client's newest version; at 100 clients a minute of reading from a disk."""
MAX_BYTES = 64 * 1024 * 1024
"""Read back of each version; of a longer file, so much from a random place on."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What could not be read back: a blob below ``path``, and why."""

    path: str
    type: BlobType
    id: BlobId
    reason: str


@dataclass(slots=True)
class Sample:
    """What a sampled restore has read."""

    files: int = 0
    bytes: int = 0


Reader: TypeAlias = RepositoryReader | RepositoryPass
"""What reads blobs, verified."""


def read_sample(
    reader: Reader, root: BlobId, source: Random, sample: Sample, *, walks: int = WALKS
) -> Iterator[Unreadable]:
    """Read back, and count in ``sample``; yields what cannot be read, and goes on. RemoteError when the storage
    fails altogether."""
    seen: set[str] = set()
    left = MAX_BYTES
    for _ in range(walks):
        found = _random_file(reader, root, source)
        if isinstance(found, Unreadable):
            yield found
            continue
        if found is None or found[0] in seen or left <= 0:
            continue
        path, node = found
        seen.add(path)
        count, problem = _read_back(reader, path, node, source, left)
        left -= count
        sample.bytes += count
        if problem is not None:
            yield problem
        else:
            sample.files += 1


def _random_file(reader: Reader, root: BlobId, source: Random) -> tuple[str, Node] | Unreadable | None:
    """Path and node; None where the way ends in an empty folder."""
    path, id_ = "", root
    while True:
        try:
            nodes = decode_tree(reader.read(BlobType.TREE, id_))
        except (NotFoundError, IntegrityError) as error:
            return Unreadable(path or "/", BlobType.TREE, id_, str(error))
        choices = [node for node in nodes if node.subtree or (node.type == "file" and node.content)]
        if not choices:
            return None
        node = source.choice(choices)
        path = f"{path}/{node.name}"
        if not node.subtree:
            return path, node
        id_ = BlobId(bytes.fromhex(node.subtree))


def _read_back(
    reader: Reader, path: str, node: Node, source: Random, left: int
) -> tuple[int, Unreadable | None]:
    """How many bytes were read, and what is wrong. The reader compares each blob with its ID."""
    content = [BlobId(bytes.fromhex(text)) for text in node.content or ()]
    is_whole = node.size <= left
    first = 0 if is_whole else source.randrange(len(content))
    count = 0
    for id_ in content[first:]:
        if count >= left:
            return count, None
        try:
            count += len(reader.read(BlobType.DATA, id_))
        except (NotFoundError, IntegrityError) as error:
            return count, Unreadable(path, BlobType.DATA, id_, str(error))
    if is_whole and count != node.size:
        reason = f"it has {count} bytes, its folder says {node.size}"
        return count, Unreadable(path, BlobType.DATA, content[0], reason)
    return count, None
