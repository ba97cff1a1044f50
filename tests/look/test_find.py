from __future__ import annotations

import pytest

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import UserError
from cdr_plugin.look.find import NameSearch, Wanted, parse_moment
from cdr_plugin.look.objects import Ids, ObjectSearch
from cdr_plugin.model.blobs import BlobId, BlobType
from tests.look.world import CountingReader, Reports


def _folders(reader: CountingReader, *changed: str) -> BlobId:
    """Twenty folders of which the named ones hold another file."""
    folders = []
    for number in range(10, 30):
        name = f"d{number}"
        extra = [reader.file(b"new", name.encode())] if name in changed else []
        inner = reader.folder(b"in", reader.file(b"deep", name.encode()))
        folders.append(reader.folder(name.encode(), inner, *extra, reader.file(b"old.txt", b"x")))
    return reader.tree(*folders)


def _found(search: NameSearch, root: BlobId) -> list[str]:
    return [path for path, _ in search.search(root)]


def test_folders_in_which_nothing_was_found_are_read_once_for_all_versions() -> None:
    reader = CountingReader()
    roots = [_folders(reader, *(f"d{number}" for number in range(10, at))) for at in range(10, 15)]
    search = NameSearch(reader, Wanted(["new"]), Reports())
    assert [len(_found(search, root)) for root in roots] == [0, 1, 2, 3, 4]
    read_first = len(reader.trees)
    assert read_first < 41 + 4 * 10, "the first version, and then the way to what changed"
    assert _found(search, roots[0]) == []
    assert len(reader.trees) == read_first


def test_the_same_folder_at_another_path_is_searched_again() -> None:
    reader = CountingReader()
    folder = reader.folder(b"b", reader.file(b"c"))
    first, second = reader.tree(reader.folder(b"x", folder)), reader.tree(reader.folder(b"a", folder))
    search = NameSearch(reader, Wanted(["a/b/c"]), Reports())
    assert [_found(search, root) for root in (first, second, first)] == [[], ["/a/b/c"], []]


def test_a_pattern_from_the_root_reads_only_the_way_there() -> None:
    reader = CountingReader()
    search = NameSearch(reader, Wanted(["/d12/*.txt"]), Reports())
    assert _found(search, _folders(reader)) == ["/d12/old.txt"]


def test_any_pattern_will_do_and_an_exclamation_mark_is_a_letter() -> None:
    reader = CountingReader()
    root = reader.tree(*(reader.file(name) for name in (b"!x", b"A", b"b", b"c")))
    assert _found(NameSearch(reader, Wanted(["!x", "c"]), Reports()), root) == ["/!x", "/c"]
    assert _found(NameSearch(reader, Wanted(["a"], ignore_case=True), Reports()), root) == ["/A"]


def test_oldest_and_newest_are_inclusive() -> None:
    reader = CountingReader()
    root = reader.tree(
        *(reader.file(name, mtime=f"2024-01-0{day}T12:00:00Z") for day, name in enumerate((b"a", b"b", b"c"), 1))
    )

    def found(oldest: str | None, newest: str | None) -> str:
        times = [parse_moment(f"{text} 12:00 +0000") if text else None for text in (oldest, newest)]
        return "".join(_found(NameSearch(reader, Wanted(["*"], False, *times), Reports()), root))

    assert found("2024-01-02", None) == "/b/c"
    assert found(None, "2024-01-02") == "/a/b"
    assert found("2024-01-02", "2024-01-02") == "/b"


@pytest.mark.parametrize("text", ["2024-05-31", "2024-05-31 14:30", "31.05.2024", "2024-05-31T14:30:00Z"])
def test_times_are_taken_as_people_write_them(text: str) -> None:
    assert 1717000000 < parse_moment(text)[0] < 1717300000


@pytest.mark.parametrize("text", ["2024", "yesterday", "", "2024-13-01"])
def test_what_is_no_time_says_how_to_write_one(text: str) -> None:
    with pytest.raises(UserError, match=r"write it as '2024-05-31'"):
        parse_moment(text)


def test_blobs_and_trees_are_found_by_the_start_of_their_id_in_every_place() -> None:
    reader = CountingReader()
    same = reader.file(b"same", b"shared" * 5000)
    folder = reader.folder(b"one", same)
    root = reader.tree(folder, reader.folder(b"two", reader.folder(b"one", same)), reader.file(b"other", b"o"))
    content = same.content
    assert content and len(content) == 3
    search = ObjectSearch(reader, Ids([content[0][:8], content[2].upper()]), Ids([]), Reports())
    found = list(search.search(root))
    assert {(item.path, item.id) for item in found} == {
        (path, id_) for path in ("/one/same", "/two/one/same") for id_ in (content[0], content[2])
    }
    assert {item.parent for item in found} == {folder.subtree}
    trees = ObjectSearch(reader, Ids([]), Ids([folder.subtree[:6], root.hex()]), Reports())
    assert [item.path for item in trees.search(root)] == ["/", "/one", "/two/one"]


def test_trees_below_which_nothing_was_found_are_read_once_for_all_versions() -> None:
    reader = CountingReader()
    wanted = reader.add(BlobType.DATA, b"d12")  # the content of one file named "new"
    search = ObjectSearch(reader, Ids([wanted]), Ids([]), Reports())
    first, second = _folders(reader, "d12"), _folders(reader, "d12", "d13")
    assert len(list(search.search(first))) == 2
    before = len(reader.trees)
    assert len(list(search.search(second))) == 2
    assert len(reader.trees) - before < 10
    assert len(list(search.search(_folders(reader)))) == 1


@pytest.mark.parametrize("text", ["xyz", "12", "", "g" * 64, "a" * 65])
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="hex digits"):
        Ids([text])


def test_a_format_without_packs_says_so() -> None:
    reader: RepositoryReader = CountingReader()
    with pytest.raises(UserError, match="no packs"):
        reader.blobs_of_pack("abcd")
    with pytest.raises(UserError, match="no packs"):
        reader.pack_of(BlobType.DATA, BlobId(bytes(32)))
