"""The decoder believes nothing: whatever a payload claims, it is the blob's length or a PayloadError."""

from __future__ import annotations

import random
import tracemalloc

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_delta.frames import LiteralReader, compress_literals
from cdr_delta.payload import MAX_BASES, MAX_COPIES, Copy, Plan, write_plan
from cdr_delta.varint import read_varint, to_signed, to_unsigned, write_varint
from cdr_plugin.errors import NotFoundError, PayloadError
from cdr_plugin.model.blobs import BlobId, BlobType
from tests.delta.old_contents import METHOD, Bases, decode, differ, remembered, words

IDS = [BlobId(bytes([n]) * 32) for n in range(MAX_BASES + 1)]
BASE = random.Random(1).randbytes(5000)


def fetch(_type: BlobType, _id: BlobId) -> bytes:
    return BASE


def head(*copies: tuple[int, int, int], bases: int = 1, size: int = len(BASE), context: bool = False) -> bytes:
    plan = Plan(BlobType.DATA, [(id_, size) for id_ in IDS[:bases]], [Copy(*copy) for copy in copies], context)
    return bytes(write_plan(plan))


def number(value: int) -> bytes:
    out = bytearray()
    write_varint(out, value)
    return bytes(out)


def frame(literals: bytes, context: bytes = b"") -> bytes:
    return compress_literals(literals, context, 3)


def foreign_frame(literals: bytes, *, write_checksum: bool = False, write_content_size: bool = False) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(
        format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_checksum=write_checksum, write_content_size=write_content_size
    )
    return zstandard.ZstdCompressor(compression_params=parameters).compress(literals)


def good_payload() -> tuple[bytes, bytes, bytes]:
    """Old and new content, and a payload with all there is: copies, moved ones, context, literals."""
    old = words(2, 30_000) + random.Random(3).randbytes(40_000)
    new = old[:5000] + b"here" + old[5000:20_000] + old[40_000:70_000] + old[20_000:40_000]
    content = remembered([old[:25_000], old[25_000:]], with_data=True)
    payload = differ(Bases(content.bases)).encode(new, 0)
    assert payload is not None
    return old, new, bytes(payload)


OLD, NEW, GOOD = good_payload()


def fetch_good(_type: BlobType, id_: BlobId) -> bytes:
    ids = METHOD.decoder().bases(GOOD)
    return [OLD[:25_000], OLD[25_000:]][list(ids).index(id_)]


def test_the_good_payload_decodes() -> None:
    assert decode(GOOD, len(NEW), fetch_good) == NEW
    assert len(METHOD.decoder().bases(GOOD)) == 2


def test_every_truncation_and_trailer_is_refused() -> None:
    for bad in (*(GOOD[:end] for end in range(len(GOOD))), GOOD + b"\0", GOOD + frame(b"x")):
        with pytest.raises(PayloadError):
            decode(bad, len(NEW), fetch_good)


@pytest.mark.parametrize("length", [0, 1, len(NEW) - 1, len(NEW) + 1, 5_000_000])
def test_another_length_is_refused(length: int) -> None:
    with pytest.raises(PayloadError):
        decode(GOOD, length, fetch_good)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\1" + bytes(31),
        b"\4\1" + head((0, 0, 10))[2:],
        b"\0" + bytes([MAX_BASES + 1]) + b"".join(IDS) + number(5000) * (MAX_BASES + 1) + number(0),
        b"\0\2" + IDS[0] * 2 + number(5000) * 2 + number(0),
    ],
)
def test_heads_that_are_none_are_refused(bad: bytes) -> None:
    with pytest.raises(PayloadError):
        METHOD.decoder().bases(bad)
    with pytest.raises(PayloadError):
        decode(bad, 10, fetch)


@pytest.mark.parametrize(
    "bad",
    [
        head((0, 0, 11)),
        head((0, 4995, 6), (6, 5001, 4)),
        head((0, 4991, 10)),
        head((0, 0, 4), (4, 4, 7)),
        head()[:-1] + number(1) + number(0) + number(0),  # of no bytes
        head()[:-1] + number(1) + number(0) + number(10 << 1 | 1) + number(to_unsigned(-1)),
        head()[:-1] + number(1) + number(0) + number(10 << 1 | 1) + number(2**70),
        head()[:-1] + number(1) + number(2**64) + number(10 << 1),
        head()[:-1] + number(MAX_COPIES + 1) + b"\0\2" * (MAX_COPIES + 1),
        head()[:-1] + b"\x81\x00" + number(0) + number(10 << 1),  # a longer number than need be
        head((0, 0, 10), size=2**32 - 1),
        head((0, 0, 10), size=4999),
        head(bases=2)[:66] + number(2**32) * 2 + number(0),
        head((0, 0, 10)) + b"\0",
        head((0, 0, 5)),
        head((0, 0, 5)) + frame(b"1234"),
        head((0, 0, 5)) + frame(b"123456"),
        head((0, 0, 5)) + frame(b"12345") + b"\0",
        head((0, 0, 5)) + zstandard.ZstdCompressor().compress(b"12345"),
        head() + frame(b"1234567890")[:-1],
        head() + foreign_frame(b"1234567890", write_checksum=True),
        head() + foreign_frame(b"1234567890", write_content_size=True),
    ],
)
def test_what_does_not_fit_is_refused(bad: bytes) -> None:
    with pytest.raises(PayloadError):
        decode(bad, 10, fetch)


@pytest.mark.parametrize("level", [1, 3, 12, 19])
def test_literals_of_every_level_are_read_back(level: int) -> None:
    context = words(5, 3_000_000 if level < 12 else 300_000)
    literals = random.Random(6).randbytes(10_000) + context[-250_000:-1000] + context[1000:100_000]
    frames = compress_literals(literals, context, level)
    reader = LiteralReader(frames, 0, len(literals), context)
    read = b""
    while len(read) < len(literals):
        read += reader.read(len(literals) - len(read))
    reader.finish()
    assert read == literals


def test_a_base_that_is_not_here_is_said_so() -> None:
    def missing(_type: BlobType, _id: BlobId) -> bytes:
        raise NotFoundError("not here")

    with pytest.raises(NotFoundError, match="not here"):
        decode(GOOD, len(NEW), missing)


def _peak(payload: bytes, length: int) -> int:
    tracemalloc.start()
    try:
        try:
            decode(payload, length, fetch)
        except PayloadError:
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_bomb_is_stopped_at_the_declared_length() -> None:
    bomb = frame(bytes(4_000_000))
    assert len(bomb) < 1000
    assert _peak(head() + bomb, 1000) < 100_000


@pytest.mark.parametrize(
    "options", [{"write_content_size": True, "source_size": 2**40}, {"window_log": 24}, {"window_log": 27}]
)
def test_frames_that_ask_for_memory_are_refused(options: dict[str, int]) -> None:
    settings = {"format": zstandard.FORMAT_ZSTD1_MAGICLESS, "write_content_size": False, **options}
    parameters = zstandard.ZstdCompressionParameters.from_level(3, **settings)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj(size=settings.get("source_size", -1))
    start = stream.compress(random.Random(4).randbytes(1 << 20)) + stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
    with pytest.raises(PayloadError, match="a frame of another kind"):
        decode(head() + start, 1000, fetch)


def test_copies_across_many_small_bases_cost_a_bounded_list() -> None:
    copies = [(64 * n, 0, 64) for n in range(MAX_COPIES)]
    payload = head(*copies, bases=64, size=1)
    assert _peak(payload, 64 * MAX_COPIES) < 40_000_000


def test_copies_into_a_long_blob_cost_its_length_and_little_more() -> None:
    length = 64 << 20
    literals = frame(bytes(4 << 20))
    payload = head((0, 0, 5000), (length - 5000, 0, 5000))
    rest = length - 10_000
    frames = b""
    while rest > 4 << 20:
        frames += number(len(literals)) + literals
        rest -= 4 << 20
    payload += frames + frame(bytes(rest))
    assert len(decode(payload, length, fetch)) == length
    assert _peak(payload, length) < length + 12_000_000


@given(st.integers(-(2**40), 2**40))
def test_numbers_are_read_as_written(value: int) -> None:
    encoded = number(to_unsigned(value)) + b"more"
    read, at = read_varint(encoded, 0, 2**42)
    assert (to_signed(read), at) == (value, len(encoded) - 4)


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_garbage_is_a_payload_error(data: bytes, length: int) -> None:
    for bad in (data, head() + data, head((0, 100, 50)) + data):
        try:
            assert len(decode(bad, length, fetch)) == length
        except PayloadError:
            pass


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_never_escape_the_length(changes: list[tuple[int, int]]) -> None:
    bad = bytearray(GOOD)
    for at, value in changes:
        bad[at] = value
    try:
        assert len(decode(bytes(bad), len(NEW), lambda *_: OLD[:25_000])) == len(NEW)
    except PayloadError:
        pass
