"""Parsers meet any bytes with a FormatError or an AuthenticationError, nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.kernel import BlobRow
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import decode_tree, encode_tree
from cdr_plugin.model.versions import Snapshot, decode_snapshot, encode_snapshot
from cdr_restic.care.check_trees import parse_tree
from cdr_restic.config import decode_config
from cdr_restic.crypto import Sealer
from cdr_restic.files import decode_plaintext
from cdr_restic.index import IndexedPack, Location, MemoryIndex, encode_index, parse_index
from cdr_restic.index_file import read_index
from cdr_restic.keys import Scrypt, decode_key, encode_key
from cdr_restic.local import LocalStorage
from cdr_restic.lock_files import our_lock, parse_lock
from cdr_restic.packs import PackBuilder, PackEntry, encode_header, load_header, pack_bytes, parse_header
from cdr_restic.reading import plan_runs
from cdr_restic.storage import FileKind
from tests.restic.test_keys import CONFIG_TEXT, MASTER
from tests.restic.world import TIME, Place, add_blob, node, some_blobs, write_version

ENTRIES = [
    PackEntry(BlobType.DATA, b"a" * 32, 0, 100, 0),
    PackEntry(BlobType.TREE, b"b" * 32, 100, 50, 700),
]
TREE = encode_tree([node("f", content=["e" * 64]), node("l", type="symlink", linktarget="x")])
PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "pack header": (parse_header, encode_header(ENTRIES)),
    "index": (lambda data: parse_index(data, 2), encode_index([IndexedPack("c" * 64, ENTRIES)])),
    "key": (lambda data: decode_key(data, "pw"), encode_key(MASTER, "pw", Scrypt(2, 1, 1))),
    "config": (decode_config, CONFIG_TEXT),
    "lock": (parse_lock, our_lock()),
    "snapshot": (decode_snapshot, encode_snapshot(Snapshot(time=TIME, tree="d" * 64, paths=["/"]))),
    "tree": (decode_tree, TREE),
    "checked tree": (parse_tree, TREE),
    "packed index": (lambda data: read_index(data, 2).blobs, encode_index([IndexedPack("c" * 64, ENTRIES)])),
    "file": (decode_plaintext, b"\2" + bytes.fromhex("28b52ffd2001090000") + b"x"),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def _tame(name: str, data: bytes) -> None:
    try:
        PARSERS[name][0](data)
    except IntegrityError as error:
        assert str(error)


@pytest.mark.parametrize("name", PARSERS)
def test_the_parser_reads_what_is_right(name: str) -> None:
    assert PARSERS[name][0](PARSERS[name][1])


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.binary(max_size=200))
def test_the_parser_survives_any_bytes(name: str, data: bytes) -> None:
    _tame(name, data)


@pytest.mark.parametrize("name", PARSERS)
@given(data=st.data())
def test_the_parser_survives_changed_bytes(name: str, data: st.DataObject) -> None:
    good = bytearray(PARSERS[name][1])
    place = data.draw(st.integers(0, len(good) - 1))
    good[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    _tame(name, bytes(good))


@pytest.mark.parametrize("name", [name for name in PARSERS if name not in ("pack header", "file")])
@given(data=st.data())
def test_the_parser_survives_any_json_in_any_field(name: str, data: st.DataObject) -> None:
    document = json.loads(PARSERS[name][1])
    inner = document
    while True:
        key = data.draw(st.sampled_from(sorted(inner)))
        below = inner[key]
        if isinstance(below, list) and below and isinstance(below[0], dict) and data.draw(st.booleans()):
            inner = below[0]
            continue
        inner[key] = data.draw(JSON)
        break
    _tame(name, json.dumps(document).encode())
    _tame(name, json.dumps(data.draw(JSON)).encode())


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    for name in PARSERS:
        _tame(name, b'{"packs":' + b"[" * 100_000)


@given(st.lists(st.tuples(st.sampled_from(BlobType), st.binary(max_size=200), st.booleans()), max_size=30))
def test_a_pack_header_tells_what_went_into_the_pack(blobs: list[tuple[BlobType, bytes, bool]]) -> None:
    pack = PackBuilder(bytearray(), 1 << 20, Sealer(MASTER), 0)
    for type_, data, compressed in blobs:
        pack.append(type_, sha256(data).digest(), data, 1000 if compressed else 0)
    with pack.finish() as view:
        whole = bytes(view)
    assert len(whole) == pack_bytes(pack.entries)
    if blobs:
        read = load_header(lambda o, n: whole[o : o + n], len(whole), Sealer(MASTER))
        assert read == pack.entries
        assert [Sealer(MASTER).open(whole[e.offset : e.offset + e.length]) for e in read] == [b[1] for b in blobs]


@given(st.binary(max_size=300))
def test_a_pack_of_any_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        load_header(lambda o, n: data[o : o + n], len(data), Sealer(MASTER))


def test_a_pack_header_longer_than_the_first_guess_is_read() -> None:
    pack = PackBuilder(bytearray(), 1 << 20, Sealer(MASTER), 0)
    for number in range(2000):
        pack.append(BlobType.DATA, number.to_bytes(32, "big"), b"", 0)
    whole = bytes(pack.finish())
    assert load_header(lambda o, n: whole[o : o + n], len(whole), Sealer(MASTER)) == pack.entries


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 10**6), st.integers(32, 10**6)), max_size=60))
def test_runs_cover_every_blob_once_and_stay_in_one_pack(places: list[tuple[int, int, int]]) -> None:
    rows = [BlobRow(0, bytes(32), pack, offset, length, 0) for pack, offset, length in sorted(places)]
    runs = list(plan_runs(rows))
    assert [blob for run in runs for blob in run.blobs] == rows
    for run in runs:
        assert {pack for _, _, pack, _, _, _ in run.blobs} == {run.pack}
        assert all(run.begin <= offset and offset + length <= run.end for _, _, _, offset, length, _ in run.blobs)


def test_a_compressed_blob_in_an_index_of_version_1_is_refused() -> None:
    with pytest.raises(IntegrityError, match="version 1"):
        parse_index(PARSERS["index"][1], 1)


@given(st.lists(st.tuples(st.sampled_from(BlobType), st.binary(min_size=32, max_size=32)), max_size=50))
def test_the_index_in_memory_keeps_types_apart_and_first_places(blobs: list[tuple[BlobType, bytes]]) -> None:
    index = MemoryIndex()
    first: dict[tuple[BlobType, bytes], Location] = {}
    for number, (type_, id_) in enumerate(blobs):
        entry = PackEntry(type_, id_, number, 32 + number, number)
        index.add(number, entry)
        first.setdefault((type_, id_), Location(number, number, 32 + number, number))
    assert len(index) == len(first)
    for (type_, id_), place in first.items():
        found = index.find(type_, id_)
        assert found == place
        other = BlobType.TREE if type_ is BlobType.DATA else BlobType.DATA
        assert index.has(other, id_) == ((other, id_) in first)


def _damage(place: Place, kind: str, where: float) -> None:
    for path in (place.folder / kind).rglob("*"):
        if path.is_file():
            data = bytearray(path.read_bytes())
            data[int(len(data) * where)] ^= 4
            path.chmod(0o600)
            path.write_bytes(data)


@pytest.mark.parametrize("kind", ["index", "snapshots"])
def test_a_damaged_file_is_named(place2: Place, kind: str) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(5))
    _damage(place2, kind, 0.5)
    with pytest.raises(IntegrityError, match=rf"{kind} \w{{10}} of repository .* is damaged"):
        place2.repository().writing().__enter__()


def test_a_damaged_blob_is_named_and_a_missing_pack_is_not_found(place2: Place) -> None:
    with place2.repository().writing() as session:
        id_ = add_blob(session, BlobType.DATA, b"x" * 5000)
    _damage(place2, "data", 0.1)
    with place2.repository().reading() as reader:
        with pytest.raises(IntegrityError, match=rf"data blob {id_.hex()[:10]} in pack data \w+ .* is damaged"):
            reader.read(BlobType.DATA, id_)
        with pytest.raises(IntegrityError):
            list(reader.read_many(BlobType.DATA, [id_]))
        for name in LocalStorage(str(place2.folder)).list(FileKind.DATA):
            LocalStorage(str(place2.folder)).remove(FileKind.DATA, name)
        with pytest.raises(NotFoundError):
            reader.read(BlobType.DATA, id_)
        with pytest.raises(NotFoundError, match="data blob 0000000000 is not in repository"):
            reader.read(BlobType.DATA, BlobId(bytes(32)))
        assert reader.sizes(BlobType.DATA, [BlobId(bytes(32)), id_]) == [None, 5000]
