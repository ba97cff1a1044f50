from __future__ import annotations

import msgspec
import pytest

from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.look import walk as walking
from cdr_plugin.look.listing import listed
from cdr_plugin.look.walk import Walk, shown
from cdr_plugin.model.blobs import BlobId, BlobType
from tests.look.world import CountingReader, Reports
from tests.restore.memory_reader import node


@pytest.fixture
def reader() -> CountingReader:
    return CountingReader()


@pytest.fixture
def reports() -> Reports:
    return Reports()


def _paths(walk: Walk) -> list[str]:
    return [path for path, _ in walk]


def _three_folders(reader: CountingReader) -> BlobId:
    inner = reader.folder(b"inner", reader.file(b"deep", b"x"))
    return reader.tree(
        reader.folder(b"a", inner, reader.file(b"one")), reader.folder(b"b", reader.file(b"two")), reader.file(b"c")
    )


def test_folders_come_before_what_they_hold_in_the_order_of_the_trees(reader: CountingReader, reports: Reports) -> None:
    walk = Walk(reader, _three_folders(reader), reports)
    assert _paths(walk) == ["/a", "/a/inner", "/a/inner/deep", "/a/one", "/b", "/b/two", "/c"]
    assert not reports.errors


def test_a_skipped_folder_is_not_read(reader: CountingReader, reports: Reports) -> None:
    walk = Walk(reader, _three_folders(reader), reports)
    seen = []
    for path, _ in walk:
        seen.append(path)
        if path == "/a/inner":
            walk.skip()
    assert seen == ["/a", "/a/inner", "/a/one", "/b", "/b/two", "/c"]
    assert len(reader.trees) == 3


def test_what_will_not_be_entered_is_not_fetched_along_with_its_neighbours(
    reader: CountingReader, reports: Reports
) -> None:
    folders = [reader.folder(b"%03d" % number, reader.file(b"f", b"%d" % number)) for number in range(50)]
    walk = Walk(reader, reader.tree(*folders), reports, enters=lambda path, node: path.endswith("5"))
    assert len(_paths(walk)) == 50 + 5
    assert len(reader.trees) == 1 + 5


def test_leaving_early_reads_nothing_more(reader: CountingReader, reports: Reports) -> None:
    for path, _ in Walk(reader, _three_folders(reader), reports):
        if path == "/a":
            break
    assert len(reader.trees) == 1


def test_a_broken_tree_is_reported_by_its_path_and_the_walk_goes_on(reader: CountingReader, reports: Reports) -> None:
    lost = reader.folder(b"lost", reader.file(b"x", b"lost"))
    garbage = reader.add(BlobType.TREE, b"{]")
    root = reader.tree(
        lost,
        node(b"garbage", "dir", subtree=garbage),
        node(b"short", "dir", subtree="ab"),
        node(b"none", "dir"),
        node(b"spaced", "dir", subtree=" " * 64),
        reader.folder(b"good", reader.file(b"y")),
    )
    reader.lose(BlobType.TREE, lost.subtree)
    assert _paths(Walk(reader, root, reports))[-2:] == ["/good", "/good/y"]
    assert set(reports.errors) == {"/lost", "/garbage", "/short", "/none", "/spaced"}


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", '"', "\\q", "line\nend", "\\x2f", "\\x00"])
def test_what_is_no_name_of_a_file_is_reported_and_left_out(
    reader: CountingReader, reports: Reports, name: str
) -> None:
    root = reader.tree(node(name, "file", content=[]), reader.file(b"good"))
    assert _paths(Walk(reader, root, reports)) == ["/good"]
    assert len(reports.errors) == 1


def test_a_tree_that_is_too_deep_ends_the_branch_and_not_the_walk(
    reader: CountingReader, reports: Reports, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walking, "MAX_DEPTH", 50)
    inner = reader.folder(b"d")
    for _ in range(60):
        inner = reader.folder(b"d", inner)
    root = reader.tree(inner, reader.file(b"z"))
    assert _paths(Walk(reader, root, reports)) == [*("/d" * depth for depth in range(1, 51)), "/z"]
    assert list(reports.errors) == ["/d" * 50]


def test_thousands_of_folders_inside_each_other_need_no_stack(reader: CountingReader, reports: Reports) -> None:
    inner = reader.folder(b"d")
    for _ in range(3000):
        inner = reader.folder(b"d", inner)
    assert len(_paths(Walk(reader, reader.tree(inner), reports))) == 3001


def test_a_root_that_cannot_be_read_is_an_error(reader: CountingReader, reports: Reports) -> None:
    with pytest.raises(NotFoundError):
        _paths(Walk(reader, BlobId(bytes(32)), reports))
    with pytest.raises(IntegrityError):
        _paths(Walk(reader, BlobId(bytes.fromhex(reader.add(BlobType.TREE, b"[]"))), reports))


def test_names_that_are_not_utf_8_are_shown_as_restic_shows_them(reader: CountingReader, reports: Reports) -> None:
    root = reader.tree(reader.file("é".encode()), reader.file(b"\xe9\xe8"), reader.file(b"\xe2\x82"))
    paths = _paths(Walk(reader, root, reports))
    assert [path.encode("utf-8", "surrogateescape") for path in paths] == ["/é".encode(), b"/\xe9\xe8", b"/\xe2\x82"]
    assert [shown(path) for path in paths] == ["/é", "/\ufffd\ufffd", "/\ufffd\ufffd"]


def test_the_tree_of_each_node_is_told(reader: CountingReader, reports: Reports) -> None:
    walk = Walk(reader, _three_folders(reader), reports)
    for path, found in walk:
        held = msgspec.json.decode(reader.blobs[BlobType.TREE, walk.tree])["nodes"]
        assert found.name in [entry["name"] for entry in held]
        assert walk.depth == path.count("/")


def test_a_folder_alone_is_listed_with_its_entries_and_recursively_on_demand(
    reader: CountingReader, reports: Reports
) -> None:
    root = _three_folders(reader)

    def paths(*folders: str, recursive: bool = False) -> list[str]:
        return [path for path, _ in listed(reader, root, reports, folders, recursive=recursive)]

    assert paths("/a") == ["/a", "/a/inner", "/a/one"]
    assert paths("/a/", recursive=True) == ["/a", "/a/inner", "/a/inner/deep", "/a/one"]
    assert paths("/a/inner", "/b") == ["/a/inner", "/a/inner/deep", "/b", "/b/two"]
    assert paths("/") == ["/a", "/b", "/c"]
    assert len(paths()) == 7
