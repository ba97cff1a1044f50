"""The catalog made of an adopted version's trees: nothing unknown, nothing doubtful, nothing unbounded."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.archiver.catalog import CatalogReader, catalog_blobs
from cdr_plugin.client.adopted_catalog import write_catalog
from cdr_plugin.errors import FormatError, NotFoundError
from cdr_plugin.kernel import STAT_RECORD, StatRecord
from cdr_plugin.model.blobs import BlobId, blob_id
from cdr_plugin.model.trees import GO_DIR, Node, encode_tree
from cdr_plugin.top import facts
from cdr_plugin.top.facts import iter_facts
from tests.restic.world import node

MADE = "2026-01-01T00:00:00Z"
OLD = {"mtime": "2025-01-01T00:00:00.5Z", "atime": "2025-01-01T00:00:00.5Z", "ctime": "2025-01-02T00:00:00+01:00"}


def file(name: str, *blobs: bytes, **change: Any) -> Node:
    content = [blob_id(blob).hex() for blob in blobs]
    return node(name, **{**OLD, "content": content, "size": sum(map(len, blobs)), "links": 1, **change})


def folder(name: str, tree: bytes) -> Node:
    return node(name, type="dir", mode=GO_DIR | 0o755, subtree=blob_id(tree).hex(), **OLD)


BELOW = encode_tree([file("x", b"one", b"two", inode=7, device_id=8, uid=9), node("s", type="symlink", linktarget="x")])
ROOT = encode_tree([folder("a", BELOW), folder("a-b", BELOW), file("z", b"one")])
TREES = {blob_id(tree): tree for tree in (BELOW, ROOT)}


def read(id_: BlobId) -> bytes:
    if id_ not in TREES:
        raise NotFoundError("not here")
    return TREES[id_]


def keys(*blobs: bytes) -> set[bytes]:
    return {b"\0" + blob_id(blob) for blob in blobs} | {b"\1" + id_ for id_ in TREES}


KNOWN = keys(b"one", b"two")


def catalog(path: Path, pieces: Iterable[bytes], known: set[bytes] = KNOWN, made: str = MADE) -> dict[bytes, Any]:
    write_catalog(path / "catalog", pieces, known, made)
    with CatalogReader(path / "catalog") as reader:
        return {record.key: (record, record.entries()) for record in reader}


def test_every_folder_is_there_with_what_its_tree_says(tmp_path: Path) -> None:
    found = catalog(tmp_path, iter_facts(blob_id(ROOT), read))
    assert list(found) == [b"a", b"a-b", b""]
    record, entries = found[b"a"]
    assert record.tree == blob_id(BELOW) and not record.dirty and record.file_bytes == 6
    stat = StatRecord(*STAT_RECORD.unpack(entries[b"x"].stat))
    assert (stat.mode, stat.ino, stat.dev, stat.uid, stat.size) == (0o100644, 7, 8, 9, 6)
    assert (stat.mtime_s, stat.mtime_ns, stat.ctime_s) == (1735689600, 500_000_000, 1735772400)
    assert entries[b"x"].ids == blob_id(b"one") + blob_id(b"two") and not entries[b"x"].recheck
    assert found[b""][1][b"a"].ids == blob_id(BELOW)


def test_a_file_with_an_unknown_blob_is_read_again_and_the_blob_is_not_named(tmp_path: Path) -> None:
    found = catalog(tmp_path, iter_facts(blob_id(ROOT), read), keys(b"one"))
    assert found[b"a"][1][b"x"].recheck and found[b"a"][0].dirty
    assert not found[b""][1][b"z"].recheck
    assert {b"%c%b" % (type_, id_) for type_, id_ in catalog_blobs(tmp_path / "catalog")} <= keys(b"one")


def test_a_folder_whose_tree_is_unknown_is_left_out(tmp_path: Path) -> None:
    found = catalog(tmp_path, iter_facts(blob_id(ROOT), read), KNOWN - {b"\1" + blob_id(BELOW)})
    assert list(found) == [b""]


@pytest.mark.parametrize("made", ["2025-01-01T00:00:00.5Z", "2025-01-01T23:00:00.9Z", "2024-01-01T00:00:00Z"])
def test_what_changed_shortly_before_or_after_the_version_was_begun_is_read_again(tmp_path: Path, made: str) -> None:
    assert catalog(tmp_path, iter_facts(blob_id(ROOT), read), made=made)[b""][1][b"z"].recheck


def test_trees_that_cannot_be_read_leave_out_their_folders_alone(tmp_path: Path) -> None:
    root = encode_tree([folder("gone", b"gone"), folder("kept", BELOW)])
    TREES[blob_id(root)] = root
    known = keys(b"one", b"two")
    assert list(catalog(tmp_path, iter_facts(blob_id(root), read), known)) == [b"kept", b""]
    del TREES[blob_id(root)]


def test_a_version_that_is_endless_when_written_out_ends_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 trees, each of which names the one before twice: 2^60 folders."""
    trees = {blob_id(BELOW): BELOW}
    tree = BELOW
    for _ in range(60):
        tree = encode_tree([folder("l", tree), folder("r", tree)])
        trees[blob_id(tree)] = tree
    monkeypatch.setattr(facts, "MAX_FACTS_BYTES", 200_000)
    assert sum(map(len, iter_facts(blob_id(tree), trees.__getitem__))) <= 200_000


@pytest.mark.parametrize(
    "stream",
    [
        struct.pack(">IQ", 1 << 20, 0),
        struct.pack(">IQ", 1, 1 << 40) + b"a",
        struct.pack(">IQ", 1, 100) + b"a" + b"short",
        b"\0\0",
        struct.pack(">IQ", 1, 0) + b"b" + struct.pack(">IQ", 1, 0) + b"a",
        struct.pack(">IQ", 0, 0) + struct.pack(">IQ", 0, 0),
    ],
    ids=["long path", "huge tree", "ends within a tree", "ends within a head", "out of order", "twice"],
)
def test_streams_that_are_none_are_refused_and_leave_no_file(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(FormatError, match="facts"):
        catalog(tmp_path, [stream])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "bad",
    [
        file("../x", b"one"),
        file("x", b"one", content=["zz"]),
        file("x", b"one", mtime="yesterday"),
        file("x", b"one", size=1 << 63),
        node("x", type="dir", subtree="ab", mode=GO_DIR, **OLD),
    ],
    ids=["name", "content", "time", "size", "subtree"],
)
def test_a_tree_that_says_nonsense_costs_only_its_folder(tmp_path: Path, bad: Node) -> None:
    tree = encode_tree([bad])
    stream = struct.pack(">IQ", 1, len(tree)) + b"a" + tree + struct.pack(">IQ", 1, len(BELOW)) + b"b" + BELOW
    assert list(catalog(tmp_path, [stream], KNOWN | {b"\1" + blob_id(tree)})) == [b"b"]


@given(st.lists(st.integers(1, 200), max_size=20))
def test_any_division_of_the_stream_gives_the_same_catalog(cuts: list[int]) -> None:
    whole = b"".join(iter_facts(blob_id(ROOT), read))
    pieces, at = [], 0
    for cut in cuts:
        pieces.append(whole[at : at + cut])
        at += cut
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first = catalog(Path(one), [whole])
        second = catalog(Path(other), [*pieces, whole[at:]])
    assert {key: found[0].raw for key, found in first.items()} == {key: found[0].raw for key, found in second.items()}
