"""Record streams: what goes in comes out, and bytes that are no records raise and cost nothing."""

import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import MAX_DATA_BLOB_BYTES, MAX_TREE_BLOB_BYTES, BlobId, BlobType, Payload
from cdr_plugin.parcel.attestation import SignedAttestation
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_SEGMENT_PLAINTEXT_BYTES,
    MAX_TARGET_BYTES,
    MAX_VERSION_RECORD_BYTES,
    MIN_SEGMENT_BYTES,
)
from cdr_plugin.parcel.parts import PartAssembler
from cdr_plugin.parcel.records import TIER_RECORD_FORMAT, FirstPart, Part, Preamble, Record, iter_records
from cdr_plugin.parcel.version import SignedVersionRecord
from tests.parcel.parties import CLIENT, CLIENT_SEALING, PREAMBLE, payload, segments

ID = bytes(range(32))
START = [0, 1, 7, b"c" * 32, b"k" * 32, "cdr 0.1.0"]
GOOD: dict[str, list[Any]] = {
    "payload": [1, 0, ID, "zstd/1", 100, b"data"],
    "first part": [2, 1, ID, "zstd/1", 100, 50, b"data"],
    "part": [3, 1, ID, 1, True, b"data"],
    "attestation": [4, b"body", bytes(64)],
    "version record": [5, b"body", bytes(64)],
}


def packed(*records: Any) -> bytes:
    return b"".join(msgpack.packb(record) for record in (START, *records))


def read(data: bytes, **change: Any) -> list[Record]:
    return list(iter_records(data, **change))


def whole(made: list[bytearray], folder: Path) -> list[Payload]:
    """The payloads in ``made``, spanning ones put together."""
    assembler = PartAssembler(folder, memory_bytes=20_000)
    found: list[Payload] = []
    for plaintext in made:
        for record in iter_records(plaintext):
            if isinstance(record, FirstPart | Part):
                done = assembler.add(record)
                found += [done] if done else []
            elif isinstance(record, Payload):
                found.append(record)
    assert assembler.open is None
    return found


# --- round trips


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_payloads_come_back_in_order_whatever_their_sizes(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 30_000), max_size=8))
    target = data.draw(st.integers(MIN_SEGMENT_BYTES, 40_000))
    rng = random.Random(0)
    wanted = [payload(rng.randbytes(size), BlobType(i % 2)) for i, size in enumerate(sizes)]
    made = segments(SegmentBuilder(PREAMBLE, target), wanted)
    found = whole(made, Path("/tmp"))
    assert [(p.type, p.id, p.method, p.length, bytes(p.data)) for p in found] == [
        (p.type, p.id, p.method, p.length, p.data) for p in wanted
    ]
    assert all(next(iter_records(plaintext)) == PREAMBLE for plaintext in made)
    assert all(len(plaintext) <= target * 5 // 4 + 256 for plaintext in made)
    assert all(len(plaintext) >= target * 14 // 16 for plaintext in made[:-1])


@pytest.mark.parametrize("size", [0, 1, 31, 255, 256, 65535, 65536, 1 << 20, MAX_DATA_BLOB_BYTES])
def test_payloads_of_every_length_class_fit_the_default_segment(size: int, tmp_path: Path) -> None:
    wanted = payload(bytes(size))
    assert [p.data for p in whole(segments(SegmentBuilder(PREAMBLE), [wanted] * 2), tmp_path)] == [wanted.data] * 2


def test_signed_records_travel_whole_behind_the_payloads() -> None:
    builder = SegmentBuilder(PREAMBLE, MIN_SEGMENT_BYTES)
    assert builder.finish() is None and len(builder) == 0
    assert list(builder.add_payload(payload(b"x"))) == []
    attestation = SignedAttestation(b"attested", b"a" * 64)
    version = SignedVersionRecord(b"v" * 10, b"s" * 64)
    assert list(builder.add_attestation(attestation)) == []
    assert list(builder.add_version(version)) == []
    last = builder.finish()
    assert last is not None and len(builder) == 0 and builder.finish() is None
    assert read(bytes(last)) == [PREAMBLE, payload(b"x"), attestation, version]


def test_the_largest_signed_records_fit_behind_a_nearly_full_segment() -> None:
    builder = SegmentBuilder(PREAMBLE, MAX_TARGET_BYTES)
    assert list(builder.add_payload(payload(bytes(MAX_TARGET_BYTES - 1000)))) == []
    (full,) = builder.add_version(SignedVersionRecord(bytes(MAX_VERSION_RECORD_BYTES), bytes(64)))
    assert len(full) <= MAX_SEGMENT_PLAINTEXT_BYTES
    assert len(read(bytes(full), max_data_bytes=MAX_TARGET_BYTES)) == 3


def test_one_segment_may_hold_records_of_several_versions() -> None:
    builder = SegmentBuilder(PREAMBLE)
    other = Preamble(8, b"d" * 32, b"k" * 32, "cdr 0.2.0")
    builder.begin(other)
    builder.add_payload(payload(b"x"))
    builder.begin(PREAMBLE)
    builder.add_payload(payload(b"y"))
    assert read(bytes(builder.finish() or b"")) == [other, payload(b"x"), PREAMBLE, payload(b"y")]


def test_segment_sizes_out_of_reach_are_refused() -> None:
    for target in (0, MIN_SEGMENT_BYTES - 1, MAX_TARGET_BYTES + 1):
        with pytest.raises(FormatError, match="segment size"):
            SegmentBuilder(PREAMBLE, target)


# --- strictness


@pytest.mark.parametrize("name", list(GOOD))
def test_the_good_records_of_these_tests_are_read(name: str) -> None:
    assert len(read(packed(GOOD[name]))) == 2


@pytest.mark.parametrize("name", [*GOOD, "preamble"])
@pytest.mark.parametrize("wrong", [None, 1.5, -1, 1 << 63, "x" * 300, b"", b"x", [], {}, [[]], msgpack.Timestamp(1)])
def test_every_field_of_a_wrong_type_or_range_is_refused(name: str, wrong: Any) -> None:
    good = GOOD.get(name, START)
    for position in range(len(good)):
        if name != "preamble" and position == len(good) - 1 and wrong == b"x":
            continue  # one byte of data is data
        if name in ("attestation", "version record") and position == 1 and isinstance(wrong, bytes):
            continue  # the body is opaque here
        if name in ("payload", "preamble") and position == len(good) - 1 and wrong == b"" and name == "payload":
            continue  # a plugin's method may encode to nothing
        bad = [*good[:position], wrong, *good[position + 1 :]]
        data = packed(bad) if name != "preamble" else msgpack.packb(bad)
        with pytest.raises(FormatError):
            read(data)


@pytest.mark.parametrize("name", list(GOOD))
def test_records_with_a_field_more_or_less_are_refused(name: str) -> None:
    for bad in (GOOD[name][:-1], [*GOOD[name], 1], [*GOOD[name], 1, 2, 3]):
        with pytest.raises(FormatError):
            read(packed(bad))


@pytest.mark.parametrize(
    "bad",
    [
        [1, 2, ID, "zstd/1", 100, b""],
        [1, True, ID, "zstd/1", 100, b""],
        [True, 0, ID, "zstd/1", 100, b""],
        [1, 0, ID, "", 100, b""],
        [1, 0, ID, "zstd/1", MAX_DATA_BLOB_BYTES + 1, b""],
        [1, 1, ID, "zstd/1", MAX_TREE_BLOB_BYTES + 1, b""],
        [1, 0, ID, "zstd/1", 100, bytes(165)],
        [2, 0, ID, "zstd/1", 100, 165, b"x"],
        [2, 0, ID, "zstd/1", 100, 1, b"x"],
        [3, 0, ID, 0, True, b"x"],
        [3, 0, ID, 1, 1, b"x"],
        [3, 0, ID, 1 << 40, True, b"x"],
        [4, bytes(MAX_ATTESTATION_BYTES + 1), bytes(64)],
        [5, bytes(MAX_VERSION_RECORD_BYTES + 1), bytes(64)],
        [5, b"", bytes(63)],
        [6, b""],
        [-1],
        [],
        7,
        None,
        "x",
        b"x",
        {},
        {"a": 1},
        [1] * 9,
        GOOD["payload"] + [GOOD["payload"]],
        [GOOD["payload"]],
    ],
)
def test_what_no_writer_makes_is_refused(bad: Any) -> None:
    with pytest.raises(FormatError, match="segment: "):
        read(packed(bad))


def test_limits_for_data_blobs_follow_the_groups_chunker() -> None:
    data = packed([1, 0, ID, "zstd/1", 1000, b"x"])
    assert len(read(data, max_data_bytes=1000)) == 2
    with pytest.raises(FormatError, match="limit is 999"):
        read(data, max_data_bytes=999)


def test_a_stream_must_start_with_a_preamble_of_this_format() -> None:
    for data in (b"", msgpack.packb(GOOD["payload"]), msgpack.packb([0, 3, *START[2:]])):
        with pytest.raises(FormatError):
            read(data)


def test_a_stream_cut_anywhere_but_between_records_is_refused() -> None:
    data = packed(*GOOD.values())
    ends = {len(packed(*list(GOOD.values())[:n])) for n in range(len(GOOD) + 1)}
    for cut in range(len(data)):
        if cut not in ends:
            with pytest.raises(FormatError):
                read(data[:cut])


def test_records_before_the_damage_are_given_out() -> None:
    stream = iter_records(packed(GOOD["payload"], [99]), what="segment abc/0")
    assert isinstance(next(stream), Preamble)
    assert isinstance(next(stream), Payload)
    with pytest.raises(FormatError, match="segment abc/0: a record of unknown kind"):
        next(stream)


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_random_bytes_raise_only_format_errors(data: bytes) -> None:
    for attempt in (data, packed() + data):
        try:
            read(attempt)
        except FormatError:
            pass


@settings(max_examples=500)
@given(st.data())
def test_mutated_streams_raise_only_format_errors(data: st.DataObject) -> None:
    stream = bytearray(packed(*GOOD.values()))
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(stream))
    except FormatError:
        pass


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x90" * (1 << 20),
        b"\x91" * (1 << 20),
        b"\x98" * (1 << 20),
        b"\x98\x01" + b"\x90" * (1 << 20),
        b"\x80" * (1 << 20),
        b"\xdd\xff\xff\xff\xff" + b"\xc0" * (1 << 20),
        b"\xdf\xff\xff\xff\xff" + b"\xc0" * (1 << 20),
        b"\xc6\xff\xff\xff\xff" + bytes(1 << 20),
        b"\xc9\xff\xff\xff\xff\x01" + bytes(1 << 20),
        b"\xd4\x01\x00" * (1 << 18),
        b"\xd6\xff\x00\x00\x00\x00" * (1 << 18),
    ],
)
def test_bombs_of_nesting_and_lengths_take_no_memory(bomb: bytes) -> None:
    data = packed() + bomb
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * len(data)


def test_a_million_records_pass_one_by_one() -> None:
    small = msgpack.packb([4, b"", bytes(64)])
    data = packed() + small * 200_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in iter_records(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 200_001 and peak < 3 * len(data)


def test_a_plaintext_above_the_limit_is_refused() -> None:
    with pytest.raises(FormatError, match="over the limit"):
        read(bytes(MAX_SEGMENT_PLAINTEXT_BYTES + 1))


# --- parts


def parts_of(size: int = 60_000, target: int = 8192) -> tuple[bytes, list[FirstPart | Part]]:
    data = random.Random(1).randbytes(size)
    made = segments(SegmentBuilder(PREAMBLE, target), [payload(data)])
    found = [r for plaintext in made for r in iter_records(plaintext) if isinstance(r, FirstPart | Part)]
    return data, found


@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_a_spanning_payload_is_the_same_from_memory_and_from_a_file(tmp_path: Path, memory_bytes: int) -> None:
    data, parts = parts_of()
    assembler = PartAssembler(tmp_path, memory_bytes)
    *before, done = [assembler.add(part) for part in parts]
    assert before == [None] * len(before) and len(before) > 5
    assert done is not None and done.data == data and done.length == len(data)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("spoil", ["drop", "double", "swap", "start", "again", "short", "long"])
def test_parts_that_do_not_follow_each_other_are_refused_and_forgotten(tmp_path: Path, spoil: str) -> None:
    _, parts = parts_of()
    spoiled: list[FirstPart | Part] = {
        "drop": [parts[0], *parts[2:]],
        "double": [parts[0], parts[1], parts[1]],
        "swap": [parts[0], parts[2], parts[1]],
        "start": parts[1:],
        "again": [parts[0], parts[0]],
        "short": [parts[0], Part(parts[1].type, parts[1].id, 1, True, b"x")],
        "long": [parts[0], Part(parts[1].type, parts[1].id, 1, False, bytes(60_000))],
    }[spoil]
    assembler = PartAssembler(tmp_path)
    with pytest.raises(FormatError, match="blob "):
        for part in spoiled:
            assembler.add(part)
    assert assembler.open is None
    for part in parts[:-1]:
        assert assembler.add(part) is None
    assert assembler.add(parts[-1]) is not None


def test_a_part_of_another_blob_is_refused(tmp_path: Path) -> None:
    _, parts = parts_of()
    assembler = PartAssembler(tmp_path)
    assembler.add(parts[0])
    with pytest.raises(FormatError, match="without the part before"):
        assembler.add(Part(BlobType.DATA, BlobId(bytes(32)), 1, False, b"x"))


def test_after_a_gap_the_receiver_learns_which_blob_is_lost(tmp_path: Path) -> None:
    _, parts = parts_of()
    assembler = PartAssembler(tmp_path, memory_bytes=0)
    assembler.add(parts[0])
    assert assembler.open == assembler.drop() == (parts[0].type, parts[0].id)
    assert assembler.drop() is None


def test_a_declared_gigabyte_takes_no_memory_until_it_comes(tmp_path: Path) -> None:
    first = FirstPart(BlobType.TREE, BlobId(ID), "zstd/1", 1 << 30, 60 << 20, b"x")
    tracemalloc.start()
    try:
        PartAssembler(tmp_path).add(first)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000


def test_a_spanning_tree_takes_memory_for_one_segment_only_while_it_is_cut() -> None:
    big = payload(bytes(64 << 20), BlobType.TREE)
    builder = SegmentBuilder(PREAMBLE)
    tracemalloc.start()
    try:
        count = sum(1 for _ in builder.add_payload(big))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 8 and peak < 24 << 20


# --- introductions ---


def test_an_introduction_comes_back_as_it_was_said() -> None:
    said = Introduction(CLIENT.public, CLIENT_SEALING.public, "alice", {"host": "alice", "site": "berlin"})
    builder = SegmentBuilder(replace(PREAMBLE, format=TIER_RECORD_FORMAT))
    assert not list(builder.add_introduction(said))
    preamble, read = iter_records(builder.finish() or b"")
    assert read == said
    assert isinstance(preamble, Preamble)
    assert preamble.format == TIER_RECORD_FORMAT


@pytest.mark.parametrize("name", ["", "a/b", "..", "x" * 65])
def test_an_introduction_under_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(FormatError, match="no client name"):
        Introduction(CLIENT.public, CLIENT_SEALING.public, name, {}).to_bytes()
