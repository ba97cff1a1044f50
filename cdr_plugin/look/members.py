"""What an archive of a folder holds, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError
from cdr_plugin.look.contents import Content
from cdr_plugin.look.walk import BROKEN, Report, Walk
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.trees import NODE_TYPES, Node


class Member(NamedTuple):
    """One entry of an archive. ``path`` has no slash in front; ``size`` of the content in bytes."""

    path: str
    node: Node
    size: int


def members(
    reader: RepositoryReader, tree: BlobId, path: str, folder: Node | None, report: Report
) -> Iterator[tuple[Member, Content | None]]:
    """The folder at ``path`` itself, unless it is the root of a version, and everything below it.

    Files of which a blob is missing, names that are given twice and unknown types are told to
    ``report`` and left out: an archive holds whole files only.
    """
    if folder is not None:
        yield Member(path.strip("/"), folder, 0), None
    walk = Walk(reader, tree, report, path.rstrip("/") + "/")
    names: list[set[str]] = []
    for at, node in walk:
        del names[walk.depth :]
        if len(names) < walk.depth:
            names.append(set())
        try:
            # By what it says, not how it is quoted: a link and a folder of one name would lead whoever
            # unpacks the archive out of it.
            name = at.rpartition("/")[2]
            if name in names[-1]:
                raise FormatError("the tree lists this name twice; the first one counts")
            names[-1].add(name)
            content = _content(reader, node)
        except BROKEN as error:
            walk.skip()
            report(at, error)
            continue
        yield Member(at.lstrip("/"), node, content.size if content else 0), content


def _content(reader: RepositoryReader, node: Node) -> Content | None:
    if node.type == "file":
        return Content(reader, node)
    if node.type not in NODE_TYPES or node.type == "socket":
        raise FormatError(f"an entry of type {node.type[:20]!r} has no place in an archive")
    return None
