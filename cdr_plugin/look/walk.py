"""Walks a version depth first, folder by folder in the order of its trees.

::

    walk = Walk(reader, root, report, enters=lambda path, node: not is_boring(path))
    for path, node in walk:
        if node.type == "dir" and is_enough(node):
            walk.skip()

A loop over a stack, and trees of siblings that will be entered are fetched together. Paths are text with what is not
UTF-8 by ``surrogateescape``; ``shown`` makes them fit for JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import CdrError, FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.names import unquote_name
from cdr_plugin.model.trees import Node, blob_id_of, link_target_text
from cdr_plugin.restore.trees import Trees

MAX_DEPTH = 4096
"""Deeper than any path that a kernel accepts."""

Report: TypeAlias = Callable[[str, CdrError], None]
"""Told of what could not be read: the path in the version, and why."""

Enters: TypeAlias = Callable[[str, Node], bool]
"""(path, folder): should the walk enter it? Asked more than once for some."""

BROKEN = (NotFoundError, IntegrityError)
"""What costs one tree or file. Other errors mean that nothing can be read any more."""


def name_of(node: Node) -> str:
    """The name of an entry as text; FormatError when it is no name of a file."""
    name = node.name
    if "\\" in name or '"' in name or "\n" in name:
        name = unquote_name(name).decode("utf-8", "surrogateescape")
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise FormatError(f"tree: {name[:80]!r} is not a file name")
    return name


def path_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def shown(path: str) -> str:
    """``path`` as restic's JSON shows it: one U+FFFD for each byte that is not UTF-8."""
    return path if path.isascii() else link_target_text(path_bytes(path))


class _Level:
    """A folder in the middle of the walk; ``nodes`` are those still to come, the next one last.
    ``path`` ends with a slash."""

    __slots__ = ("nodes", "path", "tree")

    def __init__(self, path: str, tree: BlobId, nodes: list[Node]) -> None:
        self.path = path
        self.tree = tree
        self.nodes = nodes
        nodes.reverse()

    def siblings(self, enters: Enters) -> Iterator[BlobId]:
        """Trees of the folders still to be entered."""
        for node in reversed(self.nodes):
            if node.type == "dir":
                try:
                    tree = blob_id_of(node.subtree)
                    if enters(self.path + name_of(node), node):
                        yield tree
                except FormatError:
                    continue  # told when its turn comes


def _always(path: str, node: Node) -> bool:
    return True


class Walk:
    """Iterates over (path, node) below ``root``; folders come before what they hold.

    Trees and names that are broken are told to ``report`` and left out. Names may come twice, or in
    any order, if a tree says so. Raises RemoteError when the repository cannot be reached, and what
    is wrong with the root tree itself.
    """

    def __init__(
        self, reader: RepositoryReader, root: BlobId, report: Report, path: str = "/", enters: Enters = _always
    ) -> None:
        self._enters = enters
        self._trees = Trees(reader)
        self._report = report
        self._root = root
        self._path = path
        self._stack: list[_Level] = []
        self._skip = False

    @property
    def tree(self) -> BlobId:
        """The tree that holds the node that came last."""
        return self._stack[-1].tree

    @property
    def depth(self) -> int:
        """Folders above the node that came last, 1 at the top."""
        return len(self._stack)

    def skip(self) -> None:
        """Do not enter the folder that came last."""
        self._skip = True

    def __iter__(self) -> Iterator[tuple[str, Node]]:
        self._stack = [_Level(self._path, self._root, self._trees.load(self._root, iter(())))]
        while self._stack:
            level = self._stack[-1]
            if not level.nodes:
                self._stack.pop()
                continue
            node = level.nodes.pop()
            try:
                path = level.path + name_of(node)
            except FormatError as error:
                self._report(level.path + repr(node.name[:80]), error)
                continue
            self._skip = False
            yield path, node
            if node.type == "dir" and not self._skip and self._enters(path, node):
                self._enter(path, node, level)

    def _enter(self, path: str, node: Node, level: _Level) -> None:
        try:
            if len(self._stack) >= MAX_DEPTH:
                raise FormatError(f"nested deeper than {MAX_DEPTH} folders")
            tree = blob_id_of(node.subtree)
            self._stack.append(_Level(path + "/", tree, self._trees.load(tree, level.siblings(self._enters))))
        except BROKEN as error:
            self._report(path, error)
