import random

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import NotFoundError, PayloadError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_zstd.plugin import ZstdMethod

METHOD = ZstdMethod()
BLOB = b"complementary data reduction " * 200
LEVELS = (1, 3, 19)


def no_bases(type_: BlobType, id_: BlobId) -> bytes:
    raise NotFoundError("zstd asks for no bases")


def decode(data: bytes, length: int) -> bytes:
    return METHOD.decoder().decode(data, length, no_bases)


def frame(data: bytes, **options: object) -> bytes:
    return zstandard.ZstdCompressor(**options).compress(data)  # type: ignore[arg-type]


@given(st.binary(min_size=1, max_size=2000), st.integers(1, 40), st.sampled_from(LEVELS))
def test_decode_of_encode_is_the_blob(unit: bytes, times: int, level: int) -> None:
    blob = unit * times
    encoded = METHOD.encoder({"level": level}).encode(blob)
    assert encoded is not None
    assert decode(bytes(encoded), len(blob)) == blob


def test_encode_many_is_encode_of_each() -> None:
    blobs = [BLOB, random.Random(1).randbytes(1000), b"", b"a" * 100, memoryview(BLOB)[10:1000]]
    encoder = METHOD.encoder({})
    assert encoder.encode_many(blobs) == [encoder.encode(blob) for blob in blobs]


def test_incompressible_blobs_become_frames_within_the_bound_of_the_repository() -> None:
    encoder = METHOD.encoder({})
    for size in (1, 100, 100_000, 8 * 1024 * 1024):
        blob = random.Random(size).randbytes(size)
        encoded = encoder.encode(blob)
        assert encoded is not None
        assert len(encoded) <= size + size // 256 + 64
        assert decode(bytes(encoded), size) == blob


@pytest.mark.parametrize("size", [1, 255, 256, 100_000, 8 * 1024 * 1024])
def test_frames_of_incompressible_blobs_are_hardly_larger(size: int) -> None:
    blob = random.Random(2).randbytes(size)
    encoded = METHOD.encoder({}).encode(blob)
    assert encoded is not None
    assert len(encoded) <= size + 3 * (size // (128 * 1024)) + 20  # a restic repository takes size/256 + 64
    assert decode(bytes(encoded), size) == blob


def test_an_empty_blob_is_not_encoded() -> None:
    assert METHOD.encoder({}).encode(b"") is None
    assert METHOD.encoder({}).encode(memoryview(b"")) is None


@pytest.mark.parametrize("level", LEVELS)
def test_frames_are_what_a_restic_repository_may_hold(level: int) -> None:
    blob = BLOB * 2000  # 11.6 MB, beyond the largest window
    encoded = METHOD.encoder({"level": level}).encode(blob)
    assert encoded is not None
    header = zstandard.get_frame_parameters(encoded)
    assert header.content_size == len(blob)
    assert header.window_size <= 8 * 1024 * 1024
    assert not header.has_checksum
    assert header.dict_id == 0
    assert decode(bytes(encoded), len(blob)) == blob


def test_frames_without_content_size_or_with_checksum_decode() -> None:
    for options in ({"write_content_size": False}, {"write_checksum": True}):
        assert decode(frame(BLOB, **options), len(BLOB)) == BLOB
        assert decode(frame(b"x", **options), 1) == b"x"


def test_a_wrong_length_is_refused() -> None:
    for options in ({}, {"write_content_size": False}):
        for length in (0, 1, len(BLOB) - 1, len(BLOB) + 1, 2**62):
            if length == 2**62 and options:
                continue  # no caller passes a length beyond the limits, and this frame does not contradict it
            with pytest.raises(PayloadError):
                decode(frame(BLOB, **options), length)


def test_trailing_bytes_are_refused() -> None:
    for options in ({}, {"write_content_size": False}, {"write_checksum": True}):
        good = frame(BLOB, **options)
        empty = frame(b"")
        skippable = b"\x50\x2a\x4d\x18\x02\x00\x00\x00hi"
        trailers = (b"\0", good, empty, skippable)
        for bad in (*(good + trailer for trailer in trailers), skippable + good, empty + good):
            with pytest.raises(PayloadError):
                decode(bad, len(BLOB))


def test_every_truncation_is_refused() -> None:
    for options in ({}, {"write_content_size": False}, {"write_checksum": True}):
        good = frame(BLOB, **options)
        for end in range(len(good)):
            with pytest.raises(PayloadError):
                decode(good[:end], len(BLOB))


def test_an_inflating_frame_is_stopped_at_the_declared_length() -> None:
    bomb = frame(bytes(200_000_000), write_content_size=False)
    assert len(bomb) < 20_000
    with pytest.raises(PayloadError):
        decode(bomb, 1000)


def test_a_window_beyond_8_mib_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=24, write_content_size=False)
    blob = bytes(20_000_000)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    wide = stream.compress(blob) + stream.flush()
    assert zstandard.get_frame_parameters(wide).window_size == 1 << 24
    with pytest.raises(PayloadError, match="window"):
        decode(wide, len(blob))


def test_a_frame_with_dictionary_is_refused() -> None:
    samples = [random.Random(n).randbytes(20) + BLOB[n : n + 200] for n in range(1000)]
    dictionary = zstandard.train_dictionary(1000, samples)
    bad = frame(samples[0], dict_data=dictionary)
    with pytest.raises(PayloadError, match="dictionary"):
        decode(bad, len(samples[0]))


@given(st.binary(max_size=200), st.integers(0, 10_000))
def test_garbage_is_a_payload_error(data: bytes, length: int) -> None:
    for bad in (data, b"\x28\xb5\x2f\xfd" + data):
        try:
            assert len(decode(bad, length)) == length
        except PayloadError:
            pass


@given(st.data())
def test_flipped_bits_never_escape_the_length(data: st.DataObject) -> None:
    bad = bytearray(frame(BLOB))
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        assert len(decode(bytes(bad), len(BLOB))) == len(BLOB)
    except PayloadError:
        pass


@pytest.mark.parametrize("level", [0, 20, -1, True, "3", 3.0, None])
def test_bad_levels_are_the_users_fault(level: object) -> None:
    with pytest.raises(UserError, match=r"reduce\.zstd: level must be a whole number from 1 to 19"):
        METHOD.encoder({"level": level})


def test_unknown_settings_are_the_users_fault() -> None:
    with pytest.raises(UserError, match="unknown key 'lvl'; there is: level"):
        METHOD.encoder({"lvl": 3})


def test_it_names_itself_and_does_not_split() -> None:
    assert METHOD.label == "zstd/1"
    assert METHOD.splitter({}) is None
    assert METHOD.chunker_parameters({}) == {}
