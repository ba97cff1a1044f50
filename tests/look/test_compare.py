"""Comparing versions, against a model that reads everything."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.look.compare import Change, Comparison
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import ExtendedAttribute, Node, decode_tree
from tests.look.world import CountingReader, Reports, random_tree


def _flat(reader: CountingReader, tree: BlobId, prefix: str = "/") -> dict[str, Node]:
    found: dict[str, Node] = {}
    for node in decode_tree(reader.blobs[BlobType.TREE, tree]):
        found[prefix + node.name] = node
        if node.subtree:
            found.update(_flat(reader, BlobId(bytes.fromhex(node.subtree)), f"{prefix}{node.name}/"))
    return found


def _blobs(reader: CountingReader, tree: BlobId) -> set[tuple[BlobType, str]]:
    nodes = _flat(reader, tree).values()
    trees = {(BlobType.TREE, node.subtree) for node in nodes if node.subtree}
    trees.add((BlobType.TREE, tree.hex()))
    return trees | {(BlobType.DATA, id_) for node in nodes for id_ in node.content or ()}


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1 << 32), metadata=st.booleans())
def test_changes_are_those_of_a_model_that_reads_both_versions(seed: int, metadata: bool) -> None:
    reader, source, reports = CountingReader(), random.Random(seed), Reports()
    before, after = (reader.tree(*random_tree(reader, source)) for _ in range(2))
    comparison = Comparison(reader, before, after, reports, metadata=metadata)
    found = {change.path.rstrip("/"): change.modifier for change in comparison.changes()}
    old, new = _flat(reader, before), _flat(reader, after)
    expected: dict[str, str] = {}
    for path in old.keys() | new.keys():
        a, b = old.get(path), new.get(path)
        above = [path[:at] for at in range(1, len(path)) if path[at] == "/"]
        if any(p in old and p in new and old[p].type != new[p].type for p in above):
            continue  # below a change of type nothing is told
        if a is None or b is None:
            expected[path] = "+" if a is None else "-"
            continue
        modifier = "T" * (a.type != b.type)
        if a.type == b.type == "file" and a.content != b.content:
            modifier += "M"
        elif metadata and a != b:
            modifier += "U"
        if modifier:
            expected[path] = modifier
    assert found == expected
    assert not reports.errors


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_blobs_are_new_or_gone_only_if_the_other_version_has_them_nowhere(seed: int) -> None:
    reader, source = CountingReader(), random.Random(seed)
    shared = random_tree(reader, source)
    names = {node.name for node in shared}
    own = ([node for node in random_tree(reader, source) if node.name not in names] for _ in range(2))
    before, after = (reader.tree(*sorted(shared + nodes, key=lambda node: node.name)) for nodes in own)
    old, new = _flat(reader, before), _flat(reader, after)
    if any(path in new and new[path].type != node.type for path, node in old.items()):
        return  # restic does not look below a change of type, and counts less
    comparison = Comparison(reader, before, after, Reports())
    list(comparison.changes())
    comparison.count_blobs()
    added, removed = comparison.statistics.added, comparison.statistics.removed
    only_new = _blobs(reader, after) - _blobs(reader, before)
    only_old = _blobs(reader, before) - _blobs(reader, after)
    for amounts, blobs in ((added, only_new), (removed, only_old)):
        assert amounts.data_blobs == sum(type_ is BlobType.DATA for type_, _ in blobs)
        assert amounts.tree_blobs == sum(type_ is BlobType.TREE for type_, _ in blobs)
        assert amounts.bytes == sum(len(reader.blobs[type_, BlobId(bytes.fromhex(id_))]) for type_, id_ in blobs)


def _wide(reader: CountingReader, note: bytes) -> BlobId:
    folders = [
        reader.folder(b"d%03d" % number, reader.folder(b"in", reader.file(b"f", b"%d" % number)))
        for number in range(100)
    ]
    return reader.tree(*folders, reader.folder(b"note", reader.file(b"text", note)))


def test_equal_folders_are_not_read() -> None:
    reader = CountingReader()
    before, after = _wide(reader, b"one"), _wide(reader, b"two")
    comparison = Comparison(reader, before, after, Reports())
    assert list(comparison.changes()) == [Change("/note/text", "M")]
    assert len(reader.trees) == 4
    comparison.count_blobs(look_into_unchanged=False)
    assert len(reader.trees) == 4
    assert comparison.statistics.added.data_blobs == 1


def test_data_that_an_equal_folder_holds_too_is_neither_new_nor_gone() -> None:
    reader = CountingReader()
    before, after = _wide(reader, b"50"), _wide(reader, b"new")
    comparison = Comparison(reader, before, after, Reports())
    list(comparison.changes())
    comparison.count_blobs()
    assert comparison.statistics.added.data_blobs == 1
    assert comparison.statistics.removed.data_blobs == 0


def test_a_version_equals_itself_without_reading_anything() -> None:
    reader = CountingReader()
    root = _wide(reader, b"")
    comparison = Comparison(reader, root, root, Reports())
    assert list(comparison.changes()) == []
    comparison.count_blobs()
    assert reader.trees == []


@pytest.mark.parametrize("side", [0, 1])
def test_a_broken_tree_on_either_side_is_reported_and_nothing_is_made_up(side: int) -> None:
    reader, reports = CountingReader(), Reports()
    folders = [reader.folder(b"d", reader.file(b"f", text)) for text in (b"one", b"two")]
    roots = [reader.tree(folder, reader.file(b"z", folder.subtree.encode())) for folder in folders]
    reader.lose(BlobType.TREE, folders[side].subtree)
    comparison = Comparison(reader, *roots, reports)
    assert list(comparison.changes()) == [Change("/z", "M")]
    comparison.count_blobs()
    assert "/d" in reports.errors


def test_times_are_compared_as_instants_and_attributes_in_any_order() -> None:
    reader = CountingReader()
    attributes = [ExtendedAttribute("user.a", b"1"), ExtendedAttribute("user.b", b"2")]
    first = reader.tree(reader.file(b"f", mtime="2024-01-01T12:00:00+02:00", extended_attributes=attributes))
    second = reader.tree(reader.file(b"f", mtime="2024-01-01T10:00:00Z", extended_attributes=attributes[::-1]))
    third = reader.tree(reader.file(b"f", mtime="2024-01-01T10:00:01Z", extended_attributes=attributes))
    assert list(Comparison(reader, first, second, Reports(), metadata=True).changes()) == []
    assert list(Comparison(reader, first, third, Reports(), metadata=True).changes()) == [Change("/f", "U")]
