"""Writes versions anew without what is lost, so that the rest of them restores and checks."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

import msgspec

from cdr_plugin.care import RepairReport
from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id
from cdr_plugin.model.trees import EMPTY_TREE, Node, decode_tree, encode_tree
from cdr_restic.care.check_trees import raw_ids
from cdr_restic.encoding import BlobEncoder
from cdr_restic.index import MemoryIndex
from cdr_restic.opening import MAX_BLOB_BYTES, BlobOpener
from cdr_restic.repository import Held
from cdr_restic.storage import FileKind
from cdr_restic.writing import ResticPass

REPAIRED_TAG = "repaired"
"""What restic gives to such versions too."""
_ELSEWHERE = "see 'repair snapshots' of the program that wrote it"


def repair_versions(held: Held, ids: Sequence[str], *, forget: bool, dry_run: bool) -> RepairReport:
    """Of each version ``ids`` (full; none means all) that lacks blobs, write a new one without them: files keep the
    blobs that are there, a folder whose tree is lost becomes empty. With ``forget`` the old one is removed then, and
    so is a version whose root tree is lost.

    What counts as lost is what no index lists, or a tree of which no copy can be read: repair index and packs first.
    IntegrityError, before anything is changed, for a damaged index or snapshot; FormatError for a tree that is
    whole and cannot be understood, since it is not lost.
    """
    chosen = _chosen(held, ids)
    index = _load_index(held)
    session = ResticPass(
        held.files,
        held.key,
        index,
        lock=held.lock,
        journal=held.journal,
        encoder=BlobEncoder(held.files.version, held.options.compression),
        pack_size=held.options.pack_size,
        versions=held.versions,
    )
    with closing(session):
        trees = _Trees(held, index, session)
        repair = _Repair(index, session, trees, forget=forget, dry_run=dry_run)
        for version in chosen:
            held.lock.check()
            repair.repair(version)
    return repair.report


def _chosen(held: Held, ids: Sequence[str]) -> Sequence[StoredVersion]:
    unknown = set(ids) - {version.id for version in held.versions}
    if unknown:
        raise UserError(f"version {min(unknown)[:80]!r} is not in repository {held.files.storage.location}")
    return [version for version in held.versions if not ids or version.id in ids]


def _load_index(held: Held) -> MemoryIndex:
    index = MemoryIndex(duplicates=True)
    for name in held.files.storage.list(FileKind.INDEX):
        data = held.files.load(FileKind.INDEX, name)
        try:
            index.load(data, held.files.version)
        except FormatError as error:
            raise held.files.damaged(FileKind.INDEX, name, error) from None
    return index


class _Trees:
    """Reads trees from any copy that there is."""

    def __init__(self, held: Held, index: MemoryIndex, session: ResticPass) -> None:
        self._storage = held.files.storage
        self._opener = BlobOpener(held.key)
        self._index = index
        self._session = session
        self._copies: dict[int, list[int]] | None = None
        """Of trees that are stored several times, first row to the others; None before the first is needed."""

    def read(self, id_: bytes) -> bytes | None:
        """None when it is lost; FormatError when it is too large to be read here."""
        place = self._index.find(BlobType.TREE, id_)
        if place is None:
            return None
        if place.plain_length > MAX_BLOB_BYTES[BlobType.TREE]:
            raise FormatError(f"tree {id_.hex()[:10]} is too large to be read here; {_ELSEWHERE}")
        try:
            return self._session.read(BlobType.TREE, BlobId(id_))
        except (NotFoundError, IntegrityError):
            return self._other_copy(id_)

    def _other_copy(self, id_: bytes) -> bytes | None:
        if self._copies is None:
            self._copies = {}
            for row, first in self._index.repeats():
                self._copies.setdefault(first, []).append(row)
        for row in self._copies.get(self._index.row(BlobType.TREE, id_), ()):
            pack, entry = next(self._index.rows(row, 1))
            name = self._index.pack_name(pack)
            try:
                sealed = self._storage.load_part(FileKind.DATA, name, entry.offset, entry.length)
                return self._opener.open(entry.type, entry.id, sealed, entry.plain)
            except (NotFoundError, IntegrityError):
                continue
        return None


class _Repair:
    def __init__(
        self, index: MemoryIndex, session: ResticPass, trees: _Trees, *, forget: bool, dry_run: bool
    ) -> None:
        self.report = RepairReport()
        self._index = index
        self._session = session
        self._trees = trees
        self._forget = forget
        self._dry_run = dry_run
        self._mended: dict[bytes, bytes | None] = {}
        """Each tree that was looked at, to the one that takes its place; None: it is lost."""

    def repair(self, version: StoredVersion) -> None:
        root = bytes.fromhex(version.snapshot.tree)
        name = f"version {version.id[:8]}"
        lost_before = len(self.report.lost)
        new = self._mend(root)
        if new == root:
            return
        if new is None:
            self.report.lost.append(f"{name}: its root tree is lost, and all of it")
            self._remove_whole(version, name)
            return
        lost = len(self.report.lost) - lost_before
        if self._dry_run:
            self.report.done.append(f"{name}: would be written anew, without what is lost ({lost} items)")
            return
        tags = list(dict.fromkeys([*version.snapshot.tags, REPAIRED_TAG]))
        original = version.snapshot.original or version.id
        snapshot = msgspec.structs.replace(version.snapshot, tree=new.hex(), tags=tags, original=original)
        written = self._session.add_version(snapshot)
        if self._forget:
            self._session.remove_version(version.id)
        kept = "in place of it" if self._forget else "beside it"
        self.report.done.append(f"{name}: wrote {written[:8]} {kept}, without what is lost")

    def _remove_whole(self, version: StoredVersion, name: str) -> None:
        if not self._forget:
            self.report.done.append(f"{name}: left as it is; --forget removes it")
        elif self._dry_run:
            self.report.done.append(f"{name}: would be removed")
        else:
            self._session.remove_version(version.id)
            self.report.done.append(f"{name}: removed")

    def _mend(self, root: bytes) -> bytes | None:
        """The tree that takes the place of ``root``, itself when nothing below is lost. A loop over a stack, children
        before parents: trees may be deep."""
        stack: list[tuple[bytes, list[Node] | None]] = [(root, None)]
        while stack:
            id_, nodes = stack.pop()
            if id_ in self._mended:
                continue
            if nodes is None:
                nodes = self._nodes(id_)
                if nodes is None:
                    self._mended[id_] = None
                    continue
                stack.append((id_, nodes))
                below = [bytes.fromhex(node.subtree) for node in nodes if node.type == "dir" and node.subtree]
                stack += [(tree, None) for tree in below if tree not in self._mended]
                continue
            self._mended[id_] = self._rewritten(id_, nodes)
        return self._mended[root]

    def _nodes(self, id_: bytes) -> list[Node] | None:
        """None for a tree that is lost: its parent says so."""
        data = self._trees.read(id_)
        if data is None:
            return None
        try:
            nodes = decode_tree(data)
            for node in nodes:
                raw_ids([*(node.content or ()), *([node.subtree] if node.subtree else ())])
        except FormatError as error:
            raise FormatError(f"tree {id_.hex()[:10]} cannot be understood: {error}; {_ELSEWHERE}") from None
        return nodes

    def _rewritten(self, id_: bytes, nodes: list[Node]) -> bytes:
        """The tree without what is lost; stored unless it is the same."""
        where = f"tree {id_.hex()[:10]}"
        new = [self._rewritten_node(node, where) for node in nodes]
        if all(one is other for one, other in zip(nodes, new, strict=True)):
            return id_
        if blob_id(encode_tree(nodes)) != id_:
            raise FormatError(
                f"{where} was written in a way that cannot be reproduced without losing something; {_ELSEWHERE}"
            )
        return self._add(encode_tree(new))

    def _rewritten_node(self, node: Node, where: str) -> Node:
        if node.type == "dir":
            return self._rewritten_folder(node, where)
        if node.type != "file":
            return node
        if node.content is None:
            self.report.lost.append(f"{where}: file {node.name!r}: all of its content")
            return msgspec.structs.replace(node, content=[], size=0)
        rows = self._index.find_rows(BlobType.DATA, bytes.fromhex("".join(node.content)))
        if all(row >= 0 for row in rows):
            return node
        kept = [id_ for id_, row in zip(node.content, rows, strict=True) if row >= 0]
        self.report.lost.append(
            f"{where}: file {node.name!r}: {len(node.content) - len(kept)} of {len(node.content)} blobs"
        )
        return msgspec.structs.replace(node, content=kept, size=sum(map(self._size, kept)))

    def _rewritten_folder(self, node: Node, where: str) -> Node:
        mended = self._mended.get(bytes.fromhex(node.subtree)) if node.subtree else None
        if mended is None:
            self.report.lost.append(f"{where}: folder {node.name!r}: all that was in it")
            return msgspec.structs.replace(node, subtree=self._add(EMPTY_TREE).hex())
        new = mended.hex()
        return node if new == node.subtree else msgspec.structs.replace(node, subtree=new)

    def _size(self, id_: str) -> int:
        place = self._index.find(BlobType.DATA, bytes.fromhex(id_))
        return place.plain_length if place else 0

    def _add(self, data: bytes) -> bytes:
        id_ = blob_id(data)
        if not self._dry_run:
            self._session.add(BlobType.TREE, id_, data)
        return id_
