"""Finds one path in a version."""

from __future__ import annotations

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.look.walk import name_of
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of, decode_tree


def locate(reader: RepositoryReader, root: BlobId, path: str) -> Node | None:
    """The node at ``path``, with or without a slash in front; None for the root itself. UserError when
    there is none, IntegrityError and NotFoundError for broken trees on the way."""
    tree, node = root, None
    at = ""
    for name in filter(None, path.split("/")):
        if node is not None:
            if node.type != "dir":
                raise UserError(f"{at} is a {node.type}, so there is no {path!r} in this version")
            tree = blob_id_of(node.subtree)
        node = _entry(decode_tree(reader.read(BlobType.TREE, tree)), name)
        at += "/" + name
        if node is None:
            raise UserError(f"there is no {at!r} in this version; see 'cdr ls'")
    return node


def _entry(nodes: list[Node], wanted: str) -> Node | None:
    for node in nodes:
        try:
            if name_of(node) == wanted:
                return node
        except FormatError:
            continue  # no name of a file, so nobody can mean it
    return None
