"""The index in memory, and the two ways to read index files."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.errors import FormatError
from cdr_plugin.kernel import scan_index
from cdr_plugin.model.blobs import BlobType
from cdr_restic.crypto import OVERHEAD
from cdr_restic.index import IndexedPack, Location, MemoryIndex, PackRun, PackTotals, encode_index, parse_index
from cdr_restic.index_file import PackedIndex, pack_index, read_index
from cdr_restic.packs import EMPTY_PACK_BYTES, PackEntry, pack_bytes
from cdr_restic.storage import FileKind
from tests.restic.world import Place, some_blobs, write_version

U32 = 2**32 - 1
DATA, TREE = BlobType.DATA, BlobType.TREE


def digest(number: int) -> bytes:
    return sha256(number.to_bytes(4, "big")).digest()


def entries(numbers: range, type_: BlobType = DATA) -> list[PackEntry]:
    """Of 100 bytes each, one behind the other, every second one compressed."""
    return [PackEntry(type_, digest(n), at * 100, 100, n % 2 * 500) for at, n in enumerate(numbers)]


A = IndexedPack(digest(1001).hex(), entries(range(10)))
B = IndexedPack(digest(1002).hex(), entries(range(10, 15), TREE))
OVERLAPPING = IndexedPack(digest(1003).hex(), entries(range(8, 12)))


def loaded(*files: list[IndexedPack], duplicates: bool = False) -> MemoryIndex:
    index = MemoryIndex(duplicates=duplicates)
    for packs in files:
        index.load(encode_index(packs), 2)
    return index


# --- what an index answers ---


def test_packs_are_told_with_their_contiguous_rows() -> None:
    index = loaded([A, B], [OVERLAPPING], duplicates=True)
    expected = [PackRun(0, A.name, 0, 10), PackRun(1, B.name, 10, 5), PackRun(2, OVERLAPPING.name, 15, 4)]
    assert list(index.packs()) == expected
    assert index.packs()[-1].name == OVERLAPPING.name and index.packs()[:1] == [PackRun(0, A.name, 0, 10)]
    for number, pack in enumerate([A, B, OVERLAPPING]):
        assert index.entries(number) == pack.entries
        assert index.pack_number(pack.name) == number and index.pack_name(number) == pack.name
    assert index.entries(77) == []
    assert list(index.rows(10, 5)) == [(1, entry) for entry in B.entries]


def test_copies_are_rows_of_their_own_only_if_asked_for() -> None:
    once, every = (loaded([A, B], [OVERLAPPING], duplicates=duplicates) for duplicates in (False, True))
    # Of the overlapping data blobs 8 and 9 are in A; 10 and 11 are trees in B, which is another thing.
    assert (len(once), once.blobs, len(every), every.blobs) == (17, 17, 19, 17)
    assert once.entries(2) == OVERLAPPING.entries[2:]
    assert list(once.repeats()) == [] and list(every.repeats()) == [(15, 8), (16, 9)]
    for index in (once, every):
        assert index.find(DATA, digest(8)) == Location(0, 800, 100, 0)
        assert index.find(DATA, digest(10)) == Location(2, 200, 100, 0)
        assert index.find(TREE, digest(10)) == Location(1, 0, 100, 0)


def test_a_pack_in_two_index_files_is_told_twice_under_one_number() -> None:
    index = loaded([A, B], [A], [A], duplicates=True)
    runs = [(run.number, run.first, run.blobs) for run in index.packs()]
    assert runs == [(0, 0, 10), (1, 10, 5), (0, 15, 10), (0, 25, 10)]
    assert index.entries(0) == [*A.entries, *A.entries, *A.entries]
    assert loaded([A, B], [A], [A]).entries(0) == A.entries


def test_a_pack_without_blobs_is_known_by_name() -> None:
    index = loaded([IndexedPack(digest(1).hex(), [])])
    assert index.has_pack(digest(1).hex()) and index.pack_count == 1 and len(index.packs()) == 0
    assert index.totals(index.new_flags())[0] == PackTotals(0, 0, 0, 0, 0, 0)


def test_marks_and_totals_give_the_size_of_a_pack() -> None:
    index = loaded([A, B])
    flags = index.new_flags()
    assert index.mark(DATA, digest(1) + digest(99) + digest(4), flags) == [digest(99)]
    assert index.mark(TREE, digest(12), flags, 2) == []
    totals = index.totals(flags)
    assert [tuple(total)[::2] for total in totals] == [(2, 8, 0), (1, 4, 5)]
    assert [total.uncompressed for total in totals] == [5, 3]
    assert totals[0].marked_bytes == 100 + 41 + 100 + 37
    for total, pack in zip(totals, (A, B), strict=True):
        assert total.marked_bytes + total.other_bytes + EMPTY_PACK_BYTES == pack_bytes(pack.entries)
        assert not total.is_mixed and total.blobs == len(pack.entries)
    assert [total.marked for total in index.totals(flags, 2)] == [0, 1]
    assert loaded([IndexedPack(A.name, [*A.entries, *B.entries])]).totals(bytes(15))[0].is_mixed


def test_places_are_sorted_by_pack_and_offset() -> None:
    index = loaded([A], [OVERLAPPING])
    found = index.locate(DATA, b"".join(map(digest, [11, 3, 77, 0, 9, 3])))
    assert [(id_, (place.pack, place.offset)) for id_, place in found.places()] == [
        (digest(0), (0, 0)), (digest(3), (0, 300)), (digest(9), (0, 900)), (digest(11), (1, 300)),
    ]
    assert found.missing == [digest(77)]
    assert index.find_rows(DATA, digest(77) + digest(3)).tolist() == [-1, 3]


def test_what_is_no_id_is_not_known() -> None:
    index = loaded([A])
    for id_ in (b"", digest(1)[1:], digest(1) + b"x"):
        assert not index.has(DATA, id_) and index.find(DATA, id_) is None and index.row(DATA, id_) == -1


def test_packs_being_written_have_numbers_before_names() -> None:
    index = loaded([A])
    number = index.new_pack()
    index.add(number, PackEntry(DATA, digest(500), 0, 50, 0))
    assert (index.pack_name(number), index.pack_count) == ("", 2)
    index.name_pack(number, digest(7).hex())
    assert index.pack_name(number) == digest(7).hex() and index.pack_number(digest(7).hex()) == number
    assert index.find(DATA, digest(500)) == Location(number, 0, 50, 0)
    index.add_pack(B)
    assert [run.number for run in index.packs()] == [0, 2] and index.entries(2) == B.entries
    with pytest.raises(ValueError, match="flags must have one byte"):
        index.mark(DATA, b"", bytearray(10))


# --- index files ---

DOCUMENT: dict[str, Any] = json.loads(encode_index([A, B, OVERLAPPING]))


def both(text: bytes, version: int = 2) -> PackedIndex | None:
    """What the parser makes of a file; None if it refuses. The scanner must say the same, or nothing."""
    try:
        parsed = pack_index(parse_index(text, version))
    except FormatError as error:
        assert str(error).startswith("index: ")
        assert scan_index(text, OVERHEAD, version >= 2) is None
        with pytest.raises(FormatError):
            read_index(text, version)
        return None
    assert scan_index(text, OVERHEAD, version >= 2) in (None, tuple(parsed))
    assert read_index(text, version) == parsed
    return parsed


def test_what_we_write_is_scanned() -> None:
    text = encode_index([A, B, OVERLAPPING])
    assert scan_index(text, OVERHEAD, True) == tuple(pack_index([A, B, OVERLAPPING])) == both(text)
    assert both(text, 1) is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(DOCUMENT, indent=3).encode(),
        json.dumps(DOCUMENT, separators=(" , ", "\t:\r\n")).encode(),
        json.dumps({"supersedes": [A.name], **DOCUMENT}).encode(),
        json.dumps({"supersedes": [A.name, B.name], **DOCUMENT}, separators=(",", ":")).encode(),
        json.dumps({"x": [{"packs": 1}], **DOCUMENT, "supersedes": None}).encode(),
        json.dumps({"packs": [dict(reversed(pack.items())) for pack in DOCUMENT["packs"]]}).encode(),
        encode_index([A, B, OVERLAPPING]).replace(b'"blobs"', b'"\\u0062lobs"'),
        encode_index([A, B, OVERLAPPING]).replace(A.name.encode(), A.name.upper().encode()),
    ],
)
def test_other_spellings_of_an_index_are_the_same_index(text: bytes) -> None:
    assert both(text) == pack_index([A, B, OVERLAPPING])


@pytest.mark.parametrize("text", [b'{"packs":null}', b'{"packs":[]}', b' {"packs" : [ ] } '])
def test_an_index_of_no_packs_is_accepted(text: bytes) -> None:
    assert both(text) == PackedIndex(b"", b"")
    index = MemoryIndex()
    assert len(index.load(text, 2)) == 0 and len(index.packs()) == 0


def test_a_damaged_file_adds_nothing() -> None:
    index = loaded([A])
    with pytest.raises(FormatError):
        index.load(encode_index([B, OVERLAPPING])[:-3], 2)
    assert len(index) == 10 and index.pack_count == 1
    assert index.load(encode_index([B]), 2) == range(10, 15)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_scanner_and_parser_agree_on_changed_files(data: st.DataObject) -> None:
    text = bytearray(encode_index([IndexedPack(A.name, A.entries[:2]), IndexedPack(B.name, B.entries[:1])]))
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(text)))
        put = st.one_of(st.binary(max_size=3), st.text('0123456789abcf"{}[],: ', max_size=3).map(str.encode))
        text[at : at + data.draw(st.integers(0, 3))] = data.draw(put)
    both(bytes(text), data.draw(st.sampled_from([1, 2])))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, U32 + 1) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
SIZES = st.one_of(st.integers(30, 40), st.integers(U32 - 40, U32 + 2), st.integers(0, U32))
NAMES = st.one_of(st.integers(0, 5).map(lambda number: digest(number).hex()), st.text(max_size=2))
BLOBS = st.fixed_dictionaries(
    {"id": NAMES, "type": st.sampled_from(["data", "tree", "data", "x"]), "offset": SIZES, "length": SIZES},
    optional={"uncompressed_length": SIZES, "more": JSON},
)
PACKS = st.fixed_dictionaries({"id": NAMES}, optional={"blobs": st.one_of(st.lists(BLOBS, max_size=3), JSON)})


@settings(max_examples=300, deadline=None)
@given(packs=st.one_of(st.lists(PACKS, max_size=3), JSON), version=st.sampled_from([1, 2]), spaced=st.booleans())
def test_scanner_and_parser_agree_on_any_index(packs: object, version: int, spaced: bool) -> None:
    both(json.dumps({"packs": packs}, separators=None if spaced else (",", ":")).encode(), version)


# --- files that restic wrote ---


def test_indexes_that_restic_writes_are_scanned(place: Place) -> None:
    """restic's index file after a backup, and the ones after rebuilding, which have ``supersedes``."""
    with place.repository().writing() as session:
        write_version(session, some_blobs(40))
    source = place.folder.parent / "source"
    source.mkdir()
    for number, blob in enumerate(some_blobs(30, seed=5)):
        (source / f"{number:02}").write_bytes(blob)
    place.restic("backup", str(source))
    index, _ = indexed(place)
    place.restic("rebuild-index", "--read-all-packs")
    rebuilt, texts = indexed(place)
    assert rebuilt.blobs == index.blobs > 70
    assert any(b"supersedes" in text for text in texts)


def indexed(place: Place) -> tuple[MemoryIndex, list[bytes]]:
    """All index files of a repository, each read in both ways."""
    files = place.repository().files()
    index = MemoryIndex()
    texts = [bytes(files.load(FileKind.INDEX, name)) for name in files.storage.list(FileKind.INDEX)]
    for text in texts:
        assert both(text, files.version) == scan_index(text, OVERHEAD, files.version >= 2)
        index.load(text, files.version)
    return index, texts
