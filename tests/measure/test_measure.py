"""Figures of random versions, against plain recursion over every file of every version."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import FormatError, NotFoundError
from cdr_plugin.measure.raw_data import raw_data
from cdr_plugin.measure.restore_size import restore_size
from cdr_plugin.measure.totals import Totals
from cdr_plugin.measure.unique_files import blobs_per_file, files_by_contents
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, decode_tree
from tests.restore.memory_reader import MemoryReader
from tests.support.patience import PATIENT

_FILES: st.SearchStrategy[tuple[bytes, dict[str, object]]] = st.sampled_from((
    (b"", {}),
    (b"a", {}),
    (b"b" * 100, {}),
    (b"c" * 10_000 + b"d" * 20_000, {}),
    (b"d" * 10_000, {}),
    (b"a", {"links": 2, "inode": 7, "device_id": 1}),
    (b"bb", {"links": 2, "inode": 7, "device_id": 2}),
    (b"c" * 10_000, {"links": 3, "inode": 8}),
    (b"d" * 10_000, {"links": 2}),
))  # fmt: skip
"""Contents, and what else the node says. Names of one inode have one size, as on a disk."""


class Reads(MemoryReader):
    """Counts how often each tree is walked."""

    def __init__(self) -> None:
        super().__init__()
        self.trees: Counter[BlobId] = Counter()

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        self.trees.update(ids)
        yield from super().read_many(type_, ids)


@st.composite
def _folders(draw: st.DrawFn, reader: MemoryReader, depth: int) -> list[Node]:
    nodes = []
    for number in range(draw(st.integers(0, 3))):
        if depth and draw(st.booleans()):
            nodes.append(reader.folder(f"n{number}", *draw(_folders(reader, depth - 1))))
        else:
            data, fields = draw(_FILES)
            nodes.append(reader.file(f"n{number}", data, **fields))
    return nodes


@st.composite
def _histories(draw: st.DrawFn) -> tuple[Reads, list[BlobId]]:
    reader = Reads()
    roots = [reader.tree(*draw(_folders(reader, 3))) for _ in range(draw(st.integers(0, 4)))]
    return reader, roots


def walked(reader: MemoryReader, root: BlobId, path: str = "") -> Iterator[tuple[str, Node]]:
    for node in decode_tree(reader.blobs[BlobType.TREE, root]):
        yield f"{path}/{node.name}", node
        if node.subtree:
            yield from walked(reader, BlobId(bytes.fromhex(node.subtree)), f"{path}/{node.name}")


def plain_restore_size(reader: MemoryReader, roots: Sequence[BlobId]) -> Totals:
    totals = Totals(snapshots_count=len(roots))
    for root in roots:
        seen = set()
        for _, node in walked(reader, root):
            totals.total_file_count += 1
            key = (node.inode, node.device_id)
            if node.links > 1 and node.inode and key in seen:
                continue
            seen.add(key)
            totals.total_size += node.size
    return totals


@given(_histories())
@PATIENT
def test_restore_size_counts_every_entry_and_hard_links_once(history: tuple[Reads, list[BlobId]]) -> None:
    reader, roots = history
    assert restore_size(reader, roots) == plain_restore_size(reader, roots)


@given(_histories(), st.sampled_from((restore_size, files_by_contents, blobs_per_file, raw_data)))
@PATIENT
def test_every_tree_is_read_once_however_many_versions_share_it(
    history: tuple[Reads, list[BlobId]], measure: object
) -> None:
    reader, roots = history
    assert callable(measure)
    measure(reader, [*roots, *roots])
    assert set(reader.trees.values()) <= {1}


@given(_histories())
@PATIENT
def test_files_are_told_apart_by_contents(history: tuple[Reads, list[BlobId]]) -> None:
    reader, roots = history
    contents = {tuple(node.content or ()): node.size for root in roots for _, node in walked(reader, root)}
    found = files_by_contents(reader, roots)
    assert (found.total_file_count, found.total_size) == (len(contents), sum(contents.values()))


@given(_histories())
@PATIENT
def test_blobs_count_once_for_each_file(history: tuple[Reads, list[BlobId]]) -> None:
    """In one version, where it does not matter which of the files with equal contents is counted."""
    reader, roots = history
    for root in roots:
        contents = {tuple(node.content) for _, node in walked(reader, root) if node.content}
        found = blobs_per_file(reader, [root])
        assert found.total_file_count == len(contents)
        assert found.total_blob_count == sum(len(set(ids)) for ids in contents)
        sizes = {id_.hex(): len(data) for (_, id_), data in reader.blobs.items()}
        assert found.total_size == sum(sizes[id_] for ids in contents for id_ in set(ids))


@given(_histories())
@PATIENT
def test_raw_data_is_each_blob_once(history: tuple[Reads, list[BlobId]]) -> None:
    reader, roots = history
    blobs = {(BlobType.TREE, root.hex()) for root in roots}
    for root in roots:
        for _, node in walked(reader, root):
            blobs |= {(BlobType.DATA, id_) for id_ in node.content or ()}
            blobs |= {(BlobType.TREE, node.subtree)} if node.subtree else set()
    found = raw_data(reader, roots)
    assert found.total_blob_count == len(blobs)
    assert found.total_size == sum(len(reader.blobs[type_, BlobId(bytes.fromhex(id_))]) for type_, id_ in blobs)


def test_a_folder_that_holds_itself_many_times_over_is_counted_without_walking_it() -> None:
    reader = MemoryReader()
    nodes = [reader.file("f", b"x", links=2, inode=3), reader.file("g", b"yz")]
    for _ in range(60):
        nodes = [reader.folder("a", *nodes), reader.folder("b", *nodes)]
    found = restore_size(reader, [reader.tree(*nodes)])
    assert found.total_file_count == 2 * 2**60 + 2 * (2**60 - 1)
    assert found.total_size == 2 * 2**60 + 1


def test_what_is_missing_is_an_error_that_names_it() -> None:
    reader = MemoryReader()
    gone = BlobId(sha256(b"gone").digest())
    root = reader.tree(reader.file("f", b"x", content=[gone.hex()]))
    for measure in (raw_data, blobs_per_file):
        with pytest.raises(NotFoundError, match=gone.hex()[:10]):
            measure(reader, [root])
    with pytest.raises(NotFoundError, match=gone.hex()[:10]):
        restore_size(reader, [gone])
    with pytest.raises(FormatError, match="no ID"):
        raw_data(reader, [reader.tree(reader.file("f", b"x", content=["zz"]))])


def test_figures_are_named_as_restic_names_them() -> None:
    totals = Totals(total_size=50, total_uncompressed_size=100, compressed_size=40, compressed_uncompressed_size=80)
    totals += Totals(total_blob_count=3, snapshots_count=2)
    assert totals.as_json() == {
        "total_size": 50,
        "total_uncompressed_size": 100,
        "compression_ratio": 2,
        "compression_progress": 80,
        "compression_space_saving": 50,
        "total_blob_count": 3,
        "snapshots_count": 2,
    }
    assert Totals().as_json() == {"total_size": 0, "snapshots_count": 0}
