"""What is remembered is small and bound to a key; what a differ holds is bounded."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from functools import lru_cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_delta.memory import Memories
from cdr_delta.window import WINDOW_BLOCKS, Window
from cdr_plugin.contracts import Base, OldContent
from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import BlobType, blob_id
from tests.delta.old_contents import KEY, METHOD, Bases, Held, decode, differ, encoder, remembered

MB = 1 << 20


@given(st.integers(0, 200_000), st.integers(0, 2**40), st.sampled_from([512, 1024, 65536]))
def test_a_memory_is_at_most_2_percent_of_the_blob(size: int, offset: int, block_size: int) -> None:
    assert 50 * len(encoder(block_size).remember(bytes(size), offset)) <= size


@pytest.mark.parametrize(("block_size", "percent"), [(512, 1.6), (1024, 0.8), (4096, 0.21)])
def test_a_memory_is_8_bytes_per_block(block_size: int, percent: float) -> None:
    memory = encoder(block_size).remember(bytes(MB), 12_345)
    assert 0 < len(memory) <= MB * percent / 100


def test_without_a_key_nothing_is_remembered_but_old_bytes_serve() -> None:
    made = METHOD.encoder({})
    old = random.Random(1).randbytes(100_000)
    assert made.remember(old, 0) == b""
    differ_ = made.differ(Bases([Held(blob_id(old), len(old), b"", old)]))
    assert differ_ is not None
    payload = differ_.encode(b"x" + old, 0)
    assert payload is not None
    assert decode(payload, len(old) + 1, lambda _type, _id: old) == b"x" + old


def test_memories_of_the_same_key_are_the_same_in_every_run() -> None:
    blob = random.Random(2).randbytes(10_000)
    memory = encoder().remember(blob, 100)
    assert memory == encoder().remember(blob, 100)
    assert memory[:4] == b"\x01\x09\x64\x00"
    assert memory != encoder(key=bytes(32)).remember(blob, 100)


def _spoiled() -> dict[str, bytes]:
    blob = random.Random(3).randbytes(10_000)
    good = encoder().remember(blob, 0)
    return {
        "another key": encoder(key=bytes(32)).remember(blob, 0),
        "another block size": encoder(1024).remember(blob, 0),
        "cut off": good[:-8],
        "too long": good + bytes(8),
        "another layout": b"\x02" + good[1:],
        "impossible phase": good[:2] + b"\xff\xff" + good[4:],
        "another blob's length": encoder().remember(blob[:5000], 0),
        "short": b"\x01",
    }


@pytest.mark.parametrize("why", _spoiled())
def test_memories_that_do_not_fit_are_no_memories(why: str) -> None:
    blob = random.Random(3).randbytes(10_000)
    base = Held(blob_id(blob), len(blob), _spoiled()[why])
    assert differ(Bases([base])).encode(blob + b"x", 0) is None


def test_a_memory_of_other_bytes_gives_a_payload_that_the_hash_reveals() -> None:
    blob, other = random.Random(3).randbytes(10_000), random.Random(4).randbytes(10_000)
    base = Held(blob_id(other), len(other), encoder().remember(blob, 0))
    payload = differ(Bases([base])).encode(blob, 0)
    assert payload is not None
    assert blob_id(decode(payload, len(blob), lambda _type, _id: other)) != blob_id(blob)


def test_the_longest_blob_of_a_file_matches_wherever_it_begins() -> None:
    blob = random.Random(5).randbytes(100_000)
    for offset in (0, 1, 511, 512, 10**12 + 7):
        memory = encoder().remember(blob, offset)
        payload = differ(Bases([Held(blob_id(blob), len(blob), memory)])).encode(blob, 0)
        assert payload is not None
        assert len(payload) < 50


# --- contents beyond the window ---------------------------------------------------------------


HUGE_BLOB = 4 * MB


@lru_cache(8)
def part(number: int) -> bytes:
    return random.Random(number).randbytes(HUGE_BLOB)


class Huge(OldContent):
    """100 GB in blobs of 4 MiB, made when asked for; their memories are real where ``real`` says so."""

    type = BlobType.DATA
    count = 25_000

    def __init__(self, real: range) -> None:
        self._real = real
        self._encoder = encoder()
        head = self._encoder.remember(bytes(HUGE_BLOB), 0)[:8]
        self._head, self._size = head, HUGE_BLOB // 512 * 8
        self._strange = random.Random(0).randbytes(8 * (self._size // 8 + self.count))
        self.asked: list[int] = []

    def base(self, position: int) -> Base:
        self.asked.append(position)
        if position in self._real:
            blob = part(position)
            return Base(blob_id(blob), HUGE_BLOB, self._encoder.remember(blob, 0))
        # Other blocks in each, as far as that is cheap: one that the blob before it has not.
        values = self._strange[8 * position : 8 * position + self._size]
        return Base(blob_id(position.to_bytes(4, "big")), HUGE_BLOB, self._head + values)

    def data(self, position: int) -> None:
        raise AssertionError(f"the bytes of {position} are not kept")


def test_a_differ_of_100_gb_stays_below_40_mb_and_finds_what_moved_80_gb() -> None:
    real = range(12_000, 12_003)
    old = Huge(real)
    made = differ(old)
    moved = 20_000
    blobs = {position: b"new" + part(position)[3:] for position in (0, *real, 24_999)}
    tracemalloc.start()
    try:
        payloads = {at: made.encode(blob, at * HUGE_BLOB) for at, blob in blobs.items()}
        payloads[moved] = made.encode(b"moved" + part(12_001), moved * HUGE_BLOB)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sorted(set(old.asked)) == list(range(old.count))
    assert len(old.asked) <= 2 * old.count + 10, "once for the window, once for the sample of all"
    for position in (*real, moved):
        payload = payloads[position]
        assert payload is not None
        assert len(payload) < 600
    index_bytes = made._window._view.index.nbytes  # type: ignore[attr-defined]
    sample_bytes = made._far._sample.nbytes  # type: ignore[attr-defined]
    assert held + index_bytes + sample_bytes <= 20 * 10**6
    assert peak + 2 * index_bytes + 2 * sample_bytes <= 40 * 10**6


def test_half_a_window_behind_and_ahead_is_searched() -> None:
    old = Huge(range(0))
    window = Window(old, Memories(KEY, 512))
    blob_blocks = HUGE_BLOB // 512
    view = window.view(5000 * MB)
    assert len(view.blobs) <= WINDOW_BLOCKS // blob_blocks
    assert view.blobs[0].start <= (5000 - 120) * MB
    assert view.end >= (5000 + 120) * MB
    assert window.view(5050 * MB) is view
    assert window.view(100 * MB) is view
    assert window.view(5200 * MB) is not view


@given(st.lists(st.integers(1, 40), max_size=60), st.lists(st.integers(0, 60), min_size=1, max_size=4), st.data())
def test_what_is_opposite_is_in_the_window_whatever_the_sizes_of_blobs(
    sizes: list[int], ends: list[int], data: st.DataObject
) -> None:
    """Sizes and ends in KiB. The window has room for some of the largest, of 80 blocks; the smallest weigh 64."""
    blocks = data.draw(st.sampled_from([400, 512, 700]))
    made = encoder()
    bases = [
        Held(blob_id(bytes([n])), 1024 * size, made.remember(bytes(1024 * size), 0)) for n, size in enumerate(sizes)
    ]
    window = Window(Bases(bases), Memories(KEY, 512), blocks)
    for end in sorted(1024 * end for end in ends):
        view = window.view(end)
        assert view.is_last or view.end > end
        assert not view.positions.start or view.blobs[0].start < end, "what is opposite was forgotten"
        if sum(max(2 * size, 64) for size in sizes) <= blocks:
            assert view.is_whole


def test_old_blobs_of_which_nothing_is_known_do_not_pile_up() -> None:
    bases = [Held(blob_id(bytes([n % 256, n // 256])), MB) for n in range(40_000)]
    view = Window(Bases(bases), Memories(KEY, 512)).view(30_000 * MB)
    assert len(view.blobs) <= WINDOW_BLOCKS // 64


def test_tiny_blobs_do_not_push_out_what_is_opposite() -> None:
    bases = [Held(blob_id(n.to_bytes(4, "big")), 100) for n in range(100_000)]
    window = Window(Bases(bases), Memories(KEY, 512), 2**16)
    for end in (100, 3_000_000, 5_000_000, 5_001_000, 9_999_900):
        view = window.view(end)
        assert view.blobs[0].start <= end - 100
        assert view.end >= end
        assert len(view.blobs) <= 2**16 // 64


def test_a_base_is_asked_for_once() -> None:
    content = remembered([random.Random(n).randbytes(50_000) for n in range(20)], with_data=True)
    bases = Bases(content.bases)
    made = differ(bases)
    for n in range(20):
        made.encode(b"x" + content.blobs[n], 50_000 * n)
    assert bases.asked == list(range(20))


def test_lengths_of_blobs_that_cannot_be_matched_count() -> None:
    content = remembered([random.Random(n).randbytes(50_000) for n in range(3)])
    first = content.bases[0]
    assert first is not None
    bases = [replace(first, memory=b""), *content.bases[1:]]
    changed = bytearray(content.blobs[1])
    changed[1000] ^= 1
    payload = differ(Bases(bases)).encode(bytes(changed), 50_000)
    assert payload is not None
    assert len(payload) < 600


# --- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize("block_size", [256, 513, 131072, 0, "512", 512.0, True, None])
def test_bad_block_sizes_are_the_users_fault(block_size: object) -> None:
    with pytest.raises(UserError, match=r"reduce\.delta: block_size must be a power of two from 512 to 65536 bytes"):
        METHOD.encoder({"block_size": block_size})


@pytest.mark.parametrize("level", [0, 20, True, "3", None])
def test_bad_levels_are_the_users_fault(level: object) -> None:
    with pytest.raises(UserError, match=r"reduce\.delta: level must be a whole number from 1 to 19"):
        METHOD.encoder({"level": level})


@pytest.mark.parametrize("key", ["secret", b"short", 7])
def test_a_key_in_the_configuration_is_the_users_fault(key: object) -> None:
    with pytest.raises(UserError, match=r"reduce\.delta: key is not for users to set"):
        METHOD.encoder({"key": key})


def test_unknown_settings_are_the_users_fault() -> None:
    with pytest.raises(UserError, match="unknown key 'blocksize'; there are: block_size, level"):
        METHOD.encoder({"blocksize": 512})


def test_it_names_itself_and_does_not_split() -> None:
    assert METHOD.label == "delta/1"
    assert METHOD.splitter({}) is None
    assert METHOD.chunker_parameters({}) == {}
