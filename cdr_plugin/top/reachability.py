"""What a version reaches beyond its client's base version, and what of that is missing.

The walk goes through the new tree and the base's tree side by side: equal subtrees end it, so the
cost follows what changed. Trees come from what the client sent and, where a tree moved or no base is
left, from the repository. Everything else that is named must be possessed by the client *and* be in
the index that is loaded now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, decode_tree

_TREE = bytes((BlobType.TREE,))
_DATA = bytes((BlobType.DATA,))

ReadTree = Callable[[BlobId], bytes]
"""Plaintext of a tree blob; NotFoundError when it is not to be had."""


@dataclass(slots=True)
class Reached:
    """The walk's result. ``trees`` are new trees in an order in which children come first."""

    trees: list[BlobId] = field(default_factory=list)
    data: set[bytes] = field(default_factory=set)
    missing: set[bytes] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the walk looks: the client's possession, the index loaded now, and trees, be they in
    the repository or held for their version."""

    possesses: Callable[[bytes], bool]
    has: Callable[[BlobType, BlobId], bool]
    read: ReadTree


def reach(root: BlobId, base: BlobId | None, sources: Sources) -> Reached:
    """Walk from ``root``; ``base`` is the root of a version whose snapshot is present now."""
    result = Reached()
    seen: set[BlobId] = set()
    # (tree, its counterpart in the base, whether its children were pushed already)
    stack: list[tuple[BlobId | None, BlobId | None, bool]] = [(root, base, False)]
    while stack:
        id_, counterpart, expanded = stack.pop()
        if id_ is None or id_ == counterpart or (id_ in seen and not expanded):
            continue
        if expanded:
            result.trees.append(id_)
            continue
        seen.add(id_)
        nodes = _nodes(id_, sources, result)
        if nodes is None:
            continue
        stack.append((id_, counterpart, True))
        unchanged = {n.name: n for n in _base_nodes(counterpart, sources)}
        _check_content(nodes, unchanged, sources, result)
        stack.extend((_subtree(node), _subtree(unchanged.get(node.name)), False) for node in nodes if node.subtree)
    return result


def _nodes(id_: BlobId, sources: Sources, result: Reached) -> list[Node] | None:
    key = _TREE + id_
    if sources.possesses(key):
        try:
            return decode_tree(sources.read(id_))
        except (NotFoundError, IntegrityError):
            pass
    result.missing.add(key)
    return None


def _check_content(nodes: list[Node], unchanged: dict[str, Node], sources: Sources, result: Reached) -> None:
    for node in nodes:
        old = unchanged.get(node.name)
        if not node.content or (old is not None and old.content == node.content):
            continue
        for hex_id in node.content:
            key = _DATA + bytes.fromhex(hex_id)
            if key in result.data or key in result.missing:
                continue
            if sources.possesses(key) and sources.has(BlobType.DATA, BlobId(key[1:])):
                result.data.add(key)
            else:
                result.missing.add(key)


def _base_nodes(id_: BlobId | None, sources: Sources) -> list[Node]:
    if id_ is None:
        return []
    try:
        return decode_tree(sources.read(id_))
    except (NotFoundError, IntegrityError):
        return []  # a damaged base only costs a longer walk


def _subtree(node: Node | None) -> BlobId | None:
    return BlobId(bytes.fromhex(node.subtree)) if node is not None and node.subtree else None
