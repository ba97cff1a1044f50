"""Which zstd frames are stored as they came."""

from __future__ import annotations

import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobType, Payload, blob_id
from cdr_restic.encoding import BlobEncoder
from cdr_restic.frames import decompress_blob, decompress_file, frame_problem

TEXT = random.Random(5).randbytes(3000) * 5 + bytes(5000)


def _frame(data: bytes = TEXT, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


def _streamed(data: bytes) -> bytes:
    """Without content size."""
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(data) + writer.flush()


def _with_window(window_log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, write_content_size=False)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return writer.compress(TEXT) + writer.flush()


def _with_dictionary() -> bytes:
    samples: list[bytes | bytearray | memoryview[int]] = [
        random.Random(i).randbytes(50) + TEXT[i : i + 500] for i in range(300)
    ]
    return _frame(dict_data=zstandard.train_dictionary(4096, samples))


GOOD = _frame()

ACCEPTED = {
    "usual": GOOD,
    "checksum": _frame(write_checksum=True),
    "no content size": _streamed(TEXT),
    "level 19": _frame(level=19),
    "8 MiB window": _with_window(23),
}
REFUSED = {
    "trailing byte": (GOOD + b"\0", "bytes after the frame"),
    "two frames": (GOOD + _frame(b"x"), "bytes after the frame"),
    "skippable frame behind": (GOOD + b"\x50\x2a\x4d\x18\x01\0\0\0x", "bytes after the frame"),
    "skippable frame before": (b"\x50\x2a\x4d\x18\x01\0\0\0x" + GOOD, "not a zstd frame"),
    "dictionary": (_with_dictionary(), "needs a dictionary"),
    "16 MiB window": (_with_window(24), "window too large"),
    "other content size": (_frame(TEXT + b"x"), "declares another content size"),
    "truncated": (GOOD[:-1], "truncated"),
    "checksum cut off": (_frame(write_checksum=True)[:-4], "truncated"),
    "reserved bit": (GOOD[:4] + bytes([GOOD[4] | 8]) + GOOD[5:], "reserved bit set"),
    "too large": (GOOD + bytes(len(TEXT)), "larger than the blob itself allows"),
    "empty": (b"", "not a zstd frame"),
    "reserved block type": (GOOD[:7] + b"\x07\0\0", "damaged block"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_an_exact_frame_is_stored_as_it_came(name: str) -> None:
    frame = ACCEPTED[name]
    assert frame_problem(frame, len(TEXT)) is None
    assert frame_problem(memoryview(bytearray(frame)), len(TEXT)) is None
    payload = Payload(BlobType.DATA, blob_id(TEXT), "zstd/1", len(TEXT), frame)
    assert BlobEncoder(2, "auto").encode(BlobType.DATA, TEXT, payload) == (frame, len(TEXT))


@pytest.mark.parametrize("name", REFUSED)
def test_any_other_frame_is_compressed_again(name: str) -> None:
    frame, problem = REFUSED[name]
    assert frame_problem(frame, len(TEXT)) == problem
    payload = Payload(BlobType.DATA, blob_id(TEXT), "zstd/1", len(TEXT), frame)
    stored, plain = BlobEncoder(2, "auto").encode(BlobType.DATA, TEXT, payload)
    assert (stored, plain) == (zstandard.ZstdCompressor(level=3).compress(TEXT), len(TEXT))


def test_payloads_of_other_methods_are_compressed_again() -> None:
    payload = Payload(BlobType.DATA, blob_id(TEXT), "plain/1", len(TEXT), TEXT)
    stored, plain = BlobEncoder(2, "auto").encode(BlobType.DATA, TEXT, payload)
    assert plain == len(TEXT) and frame_problem(stored, plain) is None


def test_modes_and_versions_decide_what_is_compressed() -> None:
    assert BlobEncoder(1, "max").encode(BlobType.TREE, TEXT, None) == (TEXT, 0)
    assert BlobEncoder(2, "off").encode(BlobType.DATA, TEXT, None) == (TEXT, 0)
    assert BlobEncoder(2, "off").encode(BlobType.TREE, TEXT, None)[1] == len(TEXT)
    assert BlobEncoder(2, "auto").encode(BlobType.DATA, b"", None) == (b"", 0)
    assert BlobEncoder(2, "auto").encode(BlobType.DATA, b"x", None)[1] == 1


@given(st.binary(max_size=3000), st.integers(0, 50), st.integers(-5, 19), st.booleans())
def test_every_frame_of_libzstd_is_accepted(data: bytes, repeat: int, level: int, checksum: bool) -> None:
    blob = data * repeat + b"x"
    frame = _frame(blob, level=level, write_checksum=checksum)
    assert frame_problem(frame, len(blob)) is None
    assert frame_problem(_streamed(blob), len(blob)) is None


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_break_the_walk(data: bytes, length: int) -> None:
    frame_problem(data, length)
    frame_problem(b"\x28\xb5\x2f\xfd" + data, length)


@given(st.data())
def test_an_accepted_frame_ends_where_libzstd_ends_it(data: st.DataObject) -> None:
    frame = bytearray(GOOD)
    frame[data.draw(st.integers(4, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    reader = zstandard.ZstdDecompressor().decompressobj()
    try:
        decoded = reader.decompress(bytes(frame))
    except zstandard.ZstdError:
        return
    if reader.eof and frame_problem(frame, len(decoded)) is None:
        assert reader.unused_data == b""


def test_decompression_is_limited_by_the_length_that_the_index_gives() -> None:
    decompressor = zstandard.ZstdDecompressor()
    bomb = _frame(bytes(50_000_000))
    for frame in (bomb, _streamed(bytes(50_000_000))):
        with pytest.raises(FormatError):
            decompress_blob(decompressor, frame, 1000)
        with pytest.raises(FormatError):
            decompress_file(frame, 1000)
    assert decompress_blob(decompressor, _streamed(TEXT), len(TEXT)) == TEXT
    with pytest.raises(FormatError):
        decompress_blob(decompressor, _streamed(TEXT), len(TEXT) + 1)
