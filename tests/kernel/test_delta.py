"""Block matching: both kernels hash and match alike, and what they find is there."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from itertools import pairwise
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.kernel import COPY_RECORD, reference
from cdr_plugin.kernel.block_match import MAX_POINT, PRIME
from tests.kernel.conftest import load

Row = tuple[int, int, int, bytes]
POINT = 0x123456789ABCDEF


def plain_hash(run: bytes, point: int) -> int:
    value = 0
    for byte in run:
        value = (value * point + byte) % PRIME
    return value


def rows(kernel: ModuleType, old: bytes, cuts: list[int], size: int, shifts: list[int]) -> list[Row]:
    """The old content cut into blobs, each signed with the phase of its offset plus a shift."""
    signer = kernel.BlockSigner(POINT, size)
    ends = sorted({0, len(old), *(cut % (len(old) + 1) for cut in cuts)})
    found = []
    for number, (at, end) in enumerate(pairwise(ends)):
        phase = (at + shifts[number % len(shifts)]) % size
        found.append((at, end - at, phase, signer.sign(old[at:end], phase)))
    return found


def index_of(kernel: ModuleType, blobs: list[Row], size: int = 512) -> object:
    return kernel.BlockIndex(kernel.BlockSigner(POINT, size), blobs)


def copies(kernel: ModuleType, blobs: list[Row], new: bytes, offset: int = 0, size: int = 512) -> list[tuple[int, ...]]:
    return list(COPY_RECORD.iter_unpack(index_of(kernel, blobs, size).match(new, offset)))  # type: ignore[attr-defined]


@pytest.mark.parametrize("point", [2, 3, POINT, MAX_POINT])
@pytest.mark.parametrize("size", [512, 777, 4096])
def test_the_hash_is_the_polynomial(kernel: ModuleType, point: int, size: int) -> None:
    data = random.Random(size).randbytes(3 * size + 100) + b"\xff" * (2 * size) + bytes(size)
    for phase in (0, 1, size - 1):
        values = kernel.BlockSigner(point, size).sign(data, phase)
        ends = [0, *range(size - phase, len(data), size), len(data)]
        expected = [plain_hash(data[a:b], point) for a, b in pairwise(ends)]
        assert [int.from_bytes(values[i : i + 8], "little") for i in range(0, len(values), 8)] == expected


@pytest.mark.parametrize(("length", "phase", "pieces"), [(0, 5, 0), (1, 0, 1), (512, 0, 1), (512, 1, 2), (3, 510, 2)])
def test_a_blob_has_a_value_for_each_piece(kernel: ModuleType, length: int, phase: int, pieces: int) -> None:
    assert len(kernel.BlockSigner(POINT, 512).sign(bytes(length), phase)) == 8 * pieces


def test_pages_match_in_place_though_blobs_are_cut_anywhere(kernel: ModuleType) -> None:
    old = random.Random(1).randbytes(20_000)
    new = bytearray(old)
    new[5000] ^= 1
    found = copies(kernel, rows(kernel, old, [3000, 9999], 512, [0]), bytes(new[3000:9999]), 3000)
    page = 5000 // 512 * 512
    assert found == [(0, page - 3000, 3000), (page + 512 - 3000, 9999 - page - 512, page + 512)]


def test_moved_bytes_are_found_across_borders_of_blobs(kernel: ModuleType) -> None:
    old = random.Random(2).randbytes(20_000)
    new = b"inserted" + old
    assert copies(kernel, rows(kernel, old, [3000, 9999], 512, [0]), new) == [(8, 20_000, 0)]


def test_blobs_that_are_not_known_are_counted_but_not_matched(kernel: ModuleType) -> None:
    old = random.Random(3).randbytes(6000)
    blobs = [row if row[0] != 2048 else (*row[:3], b"") for row in rows(kernel, old, [2048, 4096], 512, [0])]
    assert copies(kernel, blobs, old) == [(0, 2048, 0), (4096, 1904, 4096)]
    assert copies(kernel, blobs, b"x" + old) == [(1, 2048, 0), (4097, 1904, 4096)]


def test_the_first_of_equal_blocks_is_taken(kernel: ModuleType) -> None:
    block = random.Random(4).randbytes(512)
    blobs = rows(kernel, block * 8, [], 512, [0])
    assert copies(kernel, blobs, b"x" + block) == [(1, 512, 0)]


def test_long_searches_find_what_short_ones_do(kernel: ModuleType) -> None:
    maker = random.Random(5)
    old, noise = maker.randbytes(4096), maker.randbytes(70_000)
    blobs = rows(kernel, old, [], 512, [0])
    for at in (0, 511, 600, 5000, 33_333, 69_999):
        assert copies(kernel, blobs, noise[:at] + old + noise[at:], 10**6) == [(at, 4096, 0)]


def test_nothing_is_found_in_nothing(kernel: ModuleType) -> None:
    assert copies(kernel, [], b"x" * 2000) == []
    assert copies(kernel, rows(kernel, b"abc", [], 512, [0]), b"") == []
    assert copies(kernel, [(7, 0, 0, b"")], b"x" * 2000) == []


@st.composite
def contents(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An old content of few different parts, and a new one made of its slices and of other bytes."""
    maker = random.Random(draw(st.integers(0, 2**32)))
    parts = [maker.randbytes(700), bytes(1200), b"ab" * 400, maker.randbytes(3000)]
    old = b"".join(draw(st.lists(st.sampled_from(parts), max_size=6)))
    slices = draw(st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 5000), st.binary(max_size=9)), max_size=5))
    return old, b"".join(old[at : at + length] + more for at, length, more in slices)


@settings(max_examples=150, deadline=None)
@given(
    contents(), st.lists(st.integers(0, 10_000), max_size=3), st.integers(0, 9000), st.sampled_from([512, 600, 1024])
)
def test_both_kernels_find_the_same_and_it_is_there(
    pair: tuple[bytes, bytes], cuts: list[int], offset: int, size: int
) -> None:
    old, new = pair
    compiled = load("_kernel")
    shifts = [0, 0, 77]
    blobs = rows(compiled, old, cuts, size, shifts)
    assert blobs == rows(reference, old, cuts, size, shifts)
    found = copies(compiled, blobs, new, offset, size)
    assert found == copies(reference, blobs, new, offset, size)
    end = 0
    for at, length, old_at in found:
        assert at >= end and length > 0
        assert new[at : at + length] == old[old_at : old_at + length]
        end = at + length


@pytest.mark.parametrize("point", [1, -1, MAX_POINT + 1])
def test_points_are_bounded(kernel: ModuleType, point: int) -> None:
    with pytest.raises(ValueError, match="point must be between 2 and"):
        kernel.BlockSigner(point, 512)


@pytest.mark.parametrize("size", [511, 65537, -1])
def test_block_sizes_are_bounded(kernel: ModuleType, size: int) -> None:
    with pytest.raises(ValueError, match="block_size must be between 512 and 65536"):
        kernel.BlockSigner(POINT, size)


@pytest.mark.parametrize(
    ("blobs", "error"),
    [
        ([(0, 512, 0, b"1234567")], "a blob of 512 bytes does not have 7 bytes of values"),
        ([(0, 512, 1, b"12345678")], "a blob of 512 bytes does not have 8 bytes of values"),
        ([(0, 0, 0, b"12345678")], "a blob of 0 bytes does not have 8 bytes of values"),
        ([(0, 512, 0, b""), (511, 1, 0, b"")], "start must be between 512 and"),
        ([(2**63, 512, 0, b"")], "start must be between 0 and"),
        ([(0, 2**32, 0, b"")], "length must be between 0 and"),
        ([(0, 512, 512, b"")], "phase must be between 0 and 511"),
    ],
)
def test_rows_that_contradict_each_other_are_refused(kernel: ModuleType, blobs: list[Row], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        index_of(kernel, blobs)


@pytest.mark.parametrize("row", [None, (), (0, 1, 0), [0, 1, 0, b""], (0, 1, 0, bytearray(8)), (0, 1, 0, None)])
def test_rows_of_other_types_are_refused(kernel: ModuleType, row: object) -> None:
    with pytest.raises(TypeError, match="a blob must be a tuple"):
        index_of(kernel, [row])  # type: ignore[list-item]


def test_other_arguments_are_refused(kernel: ModuleType) -> None:
    with pytest.raises(TypeError, match="signer must be a BlockSigner"):
        kernel.BlockIndex(None, [])
    signer = kernel.BlockSigner(POINT, 512)
    assert signer.block_size == 512
    with pytest.raises(ValueError, match="phase must be between 0 and 511"):
        signer.sign(b"", 512)
    with pytest.raises(ValueError, match="offset must be between 0 and"):
        kernel.BlockIndex(signer, []).match(b"", -1)
    with pytest.raises(TypeError):
        signer.sign("text", 0)


def test_the_index_takes_some_20_bytes_per_block_beside_the_values(compiled: ModuleType) -> None:
    blobs = rows(compiled, bytes(512 * 2**14), [], 512, [0])
    assert index_of(compiled, blobs).nbytes <= 20 * 2**14  # type: ignore[attr-defined]


# --- samples of blocks ------------------------------------------------------------------------


def sample_of(kernel: ModuleType, blobs: list[Row], most: int, size: int = 512) -> Any:
    return kernel.BlockSample(kernel.BlockSigner(POINT, size), (row[1:] for row in blobs), most)


def numbers(found: bytes) -> list[int]:
    return [number for (number,) in struct.iter_unpack("<I", found)]


def test_a_sample_names_the_blobs_that_have_blocks(kernel: ModuleType) -> None:
    old = random.Random(6).randbytes(60_000)
    sample = sample_of(kernel, rows(kernel, old, [20_000, 40_000], 512, [0]), 10_000)
    found = numbers(sample.find(b"123" + old[25_000:] + old[:10_000], 0, 45_003))
    assert found == sorted(found, key=[1, 2, 0].index)
    assert set(found) == {0, 1, 2}
    within = numbers(sample.find(b"123" + old[25_000:] + old[:10_000], 20_000, 30_000))
    assert set(within) == {2}
    assert sample.find(random.Random(7).randbytes(9000), 0, 9000) == b""


def test_a_sample_has_no_blocks_of_zeros_and_no_parts_of_blocks(kernel: ModuleType) -> None:
    sample = sample_of(kernel, rows(kernel, bytes(99_000), [], 512, [0]), 100)
    assert sample.find(bytes(50_000), 0, 50_000) == b""
    part = random.Random(8).randbytes(511)
    assert sample_of(kernel, rows(kernel, part * 40, list(range(0, 40 * 511, 511)), 512, [1]), 99).find(
        part * 2, 0, 1022
    ) == b""


@pytest.mark.parametrize("most", [8, 20, 64])
def test_a_sample_of_few_is_an_even_one(kernel: ModuleType, most: int) -> None:
    """All that is sampled stays findable however much follows, and each blob has its chance."""
    old = random.Random(9).randbytes(512 * 800)
    blobs = rows(kernel, old, list(range(0, len(old), 512 * 100)), 512, [0])
    sample = sample_of(kernel, blobs, most)
    found = numbers(sample.find(old, 0, len(old)))
    assert most / 4 <= len(found) <= most
    assert len(set(found)) >= min(most / 8, 8) / 2


def test_the_table_of_a_sample_does_not_grow(compiled: ModuleType) -> None:
    blob = rows(compiled, random.Random(10).randbytes(512 * 4096), [], 512, [0])[0]
    assert sample_of(compiled, [blob], 100).nbytes < 5000
    assert sample_of(compiled, [], 1 << 18).nbytes < 7_000_000


@settings(max_examples=100, deadline=None)
@given(
    contents(),
    st.lists(st.integers(0, 10_000), max_size=3),
    st.sampled_from([1, 2, 5, 1000]),
    st.sampled_from([512, 600]),
    st.tuples(st.integers(0, 20_000), st.integers(0, 20_000)),
)
def test_both_kernels_sample_and_find_the_same(
    pair: tuple[bytes, bytes], cuts: list[int], most: int, size: int, part: tuple[int, int]
) -> None:
    old, new = pair
    low, high = sorted(min(at, len(new)) for at in part)
    compiled = load("_kernel")
    blobs = rows(compiled, old, cuts, size, [0, 0, 77])
    found = [sample_of(kernel, blobs, most, size).find(new, low, high) for kernel in (compiled, reference)]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("blobs", "most", "error"),
    [
        ([(512, 0, b"1234567")], 9, "a blob of 512 bytes does not have 7 bytes of values"),
        ([(2**32, 0, b"")], 9, "length must be between 0 and"),
        ([(512, 512, b"")], 9, "phase must be between 0 and 511"),
        ([], 0, "most must be between 1 and"),
        ([], 2**28 + 1, "most must be between 1 and"),
    ],
)
def test_samples_refuse_rows_that_contradict_each_other(
    kernel: ModuleType, blobs: list[tuple[int, int, bytes]], most: int, error: str
) -> None:
    with pytest.raises(ValueError, match=error):
        kernel.BlockSample(kernel.BlockSigner(POINT, 512), blobs, most)


def test_samples_refuse_other_arguments(kernel: ModuleType) -> None:
    signer = kernel.BlockSigner(POINT, 512)
    with pytest.raises(TypeError, match="signer must be a BlockSigner"):
        kernel.BlockSample(None, [], 1)
    for row in (None, (), (1, 0), [1, 0, b""], (1, 0, bytearray(8))):
        with pytest.raises(TypeError, match="a blob must be a tuple"):
            kernel.BlockSample(signer, [row], 1)
    with pytest.raises(TypeError):
        kernel.BlockSample(signer, 7, 1)

    def failing() -> Iterator[tuple[int, int, bytes]]:
        yield 0, 0, b""
        raise KeyError("in the middle")

    with pytest.raises(KeyError, match="in the middle"):
        kernel.BlockSample(signer, failing(), 1)
    sample = kernel.BlockSample(signer, [], 1)
    with pytest.raises(ValueError, match="high must be between 3 and 5"):
        sample.find(b"12345", 3, 2)
    with pytest.raises(ValueError, match="low must be between 0 and 5"):
        sample.find(b"12345", 6, 6)
