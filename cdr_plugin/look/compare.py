"""Compares two versions as ``restic diff`` does.

Equal subtrees are passed over by their ID, so what ``changes`` reads follows the difference. Only the
counts of blobs ask for more: data that an unchanged folder holds as well is neither new nor removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError, NotFoundError
from cdr_plugin.look.walk import BROKEN, MAX_DEPTH, Report, name_of, path_bytes
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, blob_id_of
from cdr_plugin.restore.trees import Trees

_LEVEL_TREES = 4096
"""Unchanged trees that are read together."""

_BEFORE, _AFTER = 1, 2


class Change(NamedTuple):
    """One line of the comparison; ``path`` of a folder ends with a slash. ``modifier`` is ``+`` added,
    ``-`` removed, or of ``M`` content, ``T`` type, ``U`` metadata changed."""

    path: str
    modifier: str


@dataclass(slots=True)
class Amounts:
    """What was added or removed; ``bytes`` of plain data and trees."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    bytes: int = 0

    def count(self, node: Node) -> None:
        if node.type == "file":
            self.files += 1
        elif node.type == "dir":
            self.dirs += 1
        else:
            self.others += 1


@dataclass(slots=True)
class Statistics:
    """restic's statistics of a comparison."""

    changed_files: int = 0
    added: Amounts = field(default_factory=Amounts)
    removed: Amounts = field(default_factory=Amounts)


class _Pair(NamedTuple):
    """What two folders have under one name; one side may have nothing."""

    name: str
    before: Node | None
    after: Node | None


class _Level:
    """A folder in the middle of the comparison; ``pairs`` are those still to come, the next one last."""

    __slots__ = ("pairs", "path")

    def __init__(self, path: str, pairs: list[_Pair]) -> None:
        self.path = path
        self.pairs = pairs
        pairs.reverse()

    def siblings(self) -> Iterator[BlobId]:
        """Trees of the folders still to come, where they differ."""
        for pair in reversed(self.pairs):
            for tree in _different_trees(pair):
                try:
                    yield blob_id_of(tree)
                except FormatError:
                    continue


class Comparison:
    """Compares the trees ``before`` and ``after``. Holds about 170 bytes for each blob that the changed
    part of either names."""

    def __init__(
        self, reader: RepositoryReader, before: BlobId, after: BlobId, report: Report, *, metadata: bool = False
    ) -> None:
        self.statistics = Statistics()
        """Complete when ``changes`` has ended and ``count_blobs`` has returned."""
        self._reader = reader
        self._report = report
        self._metadata = metadata
        self._trees = Trees(reader)
        self._roots = before, after
        self._seen: tuple[dict[BlobId, int], dict[BlobId, int]] = ({}, {})
        self._common: list[BlobId] = []

    def changes(self) -> Iterator[Change]:
        """The differences, depth first by name. Broken trees are told to ``report`` and passed over;
        raises what is wrong with a root, and RemoteError when nothing can be read."""
        before, after = self._roots
        self._note(BlobType.TREE, before.hex(), _BEFORE)
        self._note(BlobType.TREE, after.hex(), _AFTER)
        if before == after:
            return
        pairs = self._pairs("/", self._trees.load(before, iter((after,))), self._trees.load(after, iter(())))
        stack = [_Level("/", pairs)]
        while stack:
            level = stack[-1]
            if not level.pairs:
                stack.pop()
                continue
            pair = level.pairs.pop()
            self._note_node(pair.before, _BEFORE)
            self._note_node(pair.after, _AFTER)
            path = level.path + pair.name
            change = self._compare(path, pair)
            if change is not None:
                yield change
            below = self._below(path, pair, level, len(stack))
            if below is not None:
                stack.append(below)

    def _compare(self, path: str, pair: _Pair) -> Change | None:
        before, after = pair.before, pair.after
        shown = path + "/" if (after or before).type == "dir" else path  # type: ignore[union-attr]
        if before is None or after is None:
            node = after or before
            assert node is not None
            (self.statistics.added if after else self.statistics.removed).count(node)
            return Change(shown, "+" if after else "-")
        modifier = "T" if before.type != after.type else ""
        if before.type == after.type == "file" and before.content != after.content:
            modifier += "M"
            self.statistics.changed_files += 1
        elif self._metadata and not _same_node(before, after):
            modifier += "U"
        return Change(shown, modifier) if modifier else None

    def _below(self, path: str, pair: _Pair, level: _Level, depth: int) -> _Level | None:
        """What is to be compared inside a pair of folders, or the one folder that is there."""
        try:
            wanted = [blob_id_of(tree) for tree in _different_trees(pair)]
            if not wanted:
                if _is_dir(pair.before) and _is_dir(pair.after):
                    self._common.append(blob_id_of(pair.before.subtree))  # type: ignore[union-attr]
                return None
            if depth >= MAX_DEPTH:
                raise FormatError(f"nested deeper than {MAX_DEPTH} folders")
            lists = [self._trees.load(tree, level.siblings()) for tree in wanted]
        except BROKEN as error:
            self._report(path, error)
            return None
        if len(lists) == 1:
            lists.insert(0 if pair.before is None else 1, [])
        return _Level(path + "/", self._pairs(path, *lists))

    def _pairs(self, path: str, before: list[Node], after: list[Node]) -> list[_Pair]:
        old, new = self._by_name(path, before), self._by_name(path, after)
        names = sorted(old.keys() | new.keys(), key=path_bytes)
        return [_Pair(name, old.get(name), new.get(name)) for name in names]

    def _by_name(self, path: str, nodes: list[Node]) -> dict[str, Node]:
        named: dict[str, Node] = {}
        for node in nodes:
            try:
                named[name_of(node)] = node
            except FormatError as error:
                self._report(f"{path}: {node.name[:80]!r}", error)
        return named

    # --- blobs -----------------------------------------------------------------------------------

    def _note_node(self, node: Node | None, side: int) -> None:
        if node is None:
            return
        if node.type == "file":
            for id_ in node.content or ():
                self._note(BlobType.DATA, id_, side)
        elif node.type == "dir" and node.subtree:
            self._note(BlobType.TREE, node.subtree, side)

    def _note(self, type_: BlobType, text: str, side: int) -> None:
        try:
            id_ = blob_id_of(text)
        except FormatError:
            return  # told where the tree is read; as a file's content it cannot be counted
        seen = self._seen[type_]
        seen[id_] = seen.get(id_, 0) | side

    def count_blobs(self, *, look_into_unchanged: bool = True) -> None:
        """Complete the statistics. Without looking into unchanged folders, which costs one reading of
        their trees, what they share with the changed part counts as added or removed."""
        only: tuple[dict[BlobId, int], dict[BlobId, int]] = ({}, {})
        for type_ in BlobType:
            only[type_].update((id_, side) for id_, side in self._seen[type_].items() if side != _BEFORE | _AFTER)
            self._seen[type_].clear()
        if look_into_unchanged:
            self._drop_shared(only)
        for type_ in BlobType:
            self._count(type_, only[type_])

    def _count(self, type_: BlobType, only: dict[BlobId, int]) -> None:
        ids = list(only)
        for id_, size in zip(ids, self._reader.sizes(type_, ids), strict=True):
            amounts = self.statistics.removed if only[id_] == _BEFORE else self.statistics.added
            if type_ is BlobType.DATA:
                amounts.data_blobs += 1
            else:
                amounts.tree_blobs += 1
            if size is None:
                missing = NotFoundError(f"{type_.name.lower()} blob {id_.hex()[:10]} is not in the repository")
                self._report(f"blob {id_.hex()[:10]}", missing)
            amounts.bytes += size or 0

    def _drop_shared(self, only: tuple[dict[BlobId, int], dict[BlobId, int]]) -> None:
        """Take out what unchanged folders hold too. Reads each of their trees once, level by level."""
        seen: set[BlobId] = set()
        waiting = list(dict.fromkeys(self._common))
        while waiting and any(only):
            batch, waiting = waiting[-_LEVEL_TREES:], waiting[:-_LEVEL_TREES]
            batch = [id_ for id_ in batch if id_ not in seen]
            seen.update(batch)
            for tree in self._slim_trees(batch):
                for node in tree.nodes:
                    for text in node.content or ():
                        only[BlobType.DATA].pop(BlobId(_raw(text)), None)
                    if node.subtree:
                        id_ = BlobId(_raw(node.subtree))
                        only[BlobType.TREE].pop(id_, None)
                        waiting.append(id_)

    def _slim_trees(self, ids: Sequence[BlobId]) -> Iterator[_SlimTree]:
        """Broken ones are told by ID and left out."""
        done: set[BlobId] = set()
        try:
            for id_, data in self._reader.read_many(BlobType.TREE, ids):
                done.add(id_)
                yield from self._slim_tree(id_, data)
        except BROKEN:
            for id_ in ids:
                if id_ not in done:
                    try:
                        yield from self._slim_tree(id_, self._reader.read(BlobType.TREE, id_))
                    except BROKEN as error:
                        self._report(f"tree {id_.hex()[:10]}", error)

    def _slim_tree(self, id_: BlobId, data: bytes) -> Iterator[_SlimTree]:
        try:
            yield _decode_slim(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._report(f"tree {id_.hex()[:10]}", FormatError(f"tree: {error}"))


class _SlimNode(msgspec.Struct):
    content: list[str] | None = None
    subtree: str = ""


class _SlimTree(msgspec.Struct):
    """Only what names blobs: a third of the cost of whole nodes."""

    nodes: list[_SlimNode]


_decode_slim = msgspec.json.Decoder(_SlimTree).decode


def _raw(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _is_dir(node: Node | None) -> bool:
    return node is not None and node.type == "dir"


def _different_trees(pair: _Pair) -> list[str]:
    """The subtrees to be read for a pair: none, one, or two that differ. A change of type is not
    followed, as restic does not."""
    trees = [node.subtree for node in (pair.before, pair.after) if node is not None and node.type == "dir"]
    if pair.before is not None and pair.after is not None and (len(trees) < 2 or trees[0] == trees[1]):
        return []
    return trees


def _same_node(a: Node, b: Node) -> bool:
    """Equal in every field, times by instant and attributes in any order."""
    return a == b or _comparable(a) == _comparable(b)


def _comparable(node: Node) -> tuple[object, ...]:
    attributes = sorted((item.name, item.value) for item in node.extended_attributes)
    times = [_instant(text) for text in (node.mtime, node.atime, node.ctime)]
    bare = msgspec.structs.replace(node, mtime="", atime="", ctime="", extended_attributes=[])
    return bare, attributes, times


def _instant(text: str) -> object:
    try:
        return parse_time(text)
    except FormatError:
        return text
