"""Laws of the chunker: C = Python = the rule in its plainest form, however the input is divided."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.kernel import reference
from cdr_plugin.kernel.polynomial import modulo
from tests.kernel.vectors import POLYNOMIAL

Parameters = dict[str, int]


@st.composite
def parameters(draw: st.DrawFn) -> Parameters:
    low = draw(st.integers(64, 300))
    high = draw(st.integers(low, low + 3000))
    return {"min_size": low, "max_size": high, "average_bits": draw(st.integers(1, 11))}


@st.composite
def inputs(draw: st.DrawFn, longest: int = 40_000) -> bytes:
    """Random, or built of few different bytes and short periods."""
    source = random.Random(draw(st.integers(0, 2**32)))
    size = draw(st.integers(0, longest))
    kind = draw(st.sampled_from(["random", "binary", "periodic", "runs"]))
    if kind == "random":
        return source.randbytes(size)
    if kind == "binary":
        return bytes(source.choices(b"\0\1", k=size))
    if kind == "periodic":
        return (source.randbytes(draw(st.integers(1, 100))) * size)[:size]
    return b"".join(bytes([source.randrange(256)]) * source.randrange(1, 700) for _ in range(size // 350))


def buffers(data: bytes, seed: int) -> Iterator[bytes]:
    """The data in pieces from empty to long, often shorter than the window."""
    source = random.Random(seed)
    start = 0
    while start < len(data):
        end = start + source.choice([0, 1, 3, 63, 64, 65, 127, source.randrange(2000), 20_000])
        yield data[start:end]
        start = end


def cuts(chunker: Any, pieces: Iterator[bytes]) -> list[int]:
    found: list[int] = []
    start = 0
    for piece in pieces:
        found += [start + end for end in chunker.feed(piece)]
        start += len(piece)
    return found


def plainest(data: bytes, min_size: int, max_size: int, average_bits: int) -> list[int]:
    found = []
    start = 0
    for end in range(1, len(data) + 1):
        if end - start < min_size:
            continue
        window = modulo(int.from_bytes(data[end - 64 : end], "big"), POLYNOMIAL)
        if window % 2**average_bits == 0 or end - start >= max_size:
            found.append(end)
            start = end
    return found


@settings(max_examples=30, deadline=None)
@given(inputs(longest=3000), parameters(), st.integers(0, 2**32))
def test_reference_follows_the_rule(data: bytes, wanted: Parameters, seed: int) -> None:
    assert cuts(reference.Chunker(POLYNOMIAL, **wanted), buffers(data, seed)) == plainest(data, **wanted)


@pytest.mark.parametrize("fast", [False, True])
def test_c_equals_python_however_the_input_is_divided(compiled: ModuleType, fast: bool) -> None:
    @settings(max_examples=250, deadline=None)
    @given(inputs(), parameters(), st.integers(0, 2**32))
    def check(data: bytes, wanted: Parameters, seed: int) -> None:
        expected = reference.Chunker(POLYNOMIAL, **wanted).feed(data)
        whole = compiled.Chunker(POLYNOMIAL, **wanted)
        assert whole.feed(data) == expected
        whole.reset()
        assert cuts(whole, buffers(data, seed)) == expected
        assert cuts(reference.Chunker(POLYNOMIAL, **wanted), buffers(data, seed + 1)) == expected

    before = compiled.use_fast_path(fast)
    try:
        check()
    finally:
        compiled.use_fast_path(before)


@pytest.mark.parametrize("average_bits", [1, 6, 13, 17, 20])
def test_lanes_equal_the_plain_scan_on_long_inputs(compiled: ModuleType, average_bits: int) -> None:
    data = random.Random(average_bits).randbytes(6_000_001)
    found = []
    for fast in (False, True):
        before = compiled.use_fast_path(fast)
        chunker = compiled.Chunker(POLYNOMIAL, 64, 3_000_000, average_bits)
        compiled.use_fast_path(before)
        found.append(chunker.feed(data))
    assert found[0] == found[1]
    assert found[0]


@settings(max_examples=60, deadline=None)
@given(inputs(), parameters(), st.integers(0, 2**32))
def test_chunks_join_to_the_input_and_keep_their_bounds(data: bytes, wanted: Parameters, seed: int) -> None:
    ends = [*cuts(reference.Chunker(POLYNOMIAL, **wanted), buffers(data, seed)), len(data)]
    chunks = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert b"".join(chunks) == data
    assert all(wanted["min_size"] <= len(chunk) <= wanted["max_size"] for chunk in chunks[:-1])
    assert len(chunks[-1]) <= wanted["max_size"]


def test_reset_begins_a_new_file(kernel: ModuleType) -> None:
    data = random.Random(5).randbytes(50_000)
    chunker = kernel.Chunker(POLYNOMIAL, 64, 4096, 8)
    first = chunker.feed(data)
    chunker.feed(data[:777])
    chunker.reset()
    assert chunker.feed(data) == first


def test_feed_takes_any_buffer_of_bytes(kernel: ModuleType) -> None:
    data = random.Random(6).randbytes(10_000)
    expected = kernel.Chunker(POLYNOMIAL, 64, 4096, 8).feed(data)
    for buffer in (bytearray(data), memoryview(data), memoryview(b"x" + data)[1:]):
        assert kernel.Chunker(POLYNOMIAL, 64, 4096, 8).feed(buffer) == expected
    with pytest.raises(TypeError):
        kernel.Chunker(POLYNOMIAL).feed("text")


def test_attributes_tell_the_parameters_and_cannot_be_set(kernel: ModuleType) -> None:
    chunker = kernel.Chunker(POLYNOMIAL)
    assert (chunker.polynomial, chunker.min_size, chunker.max_size, chunker.average_bits) == (
        POLYNOMIAL,
        524288,
        8388608,
        20,
    )
    with pytest.raises(AttributeError):
        chunker.min_size = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POLYNOMIAL >> 1,), f"polynomial must have degree 53, which {POLYNOMIAL >> 1} has not"),
        ((POLYNOMIAL << 1,), f"polynomial must have degree 53, which {POLYNOMIAL << 1} has not"),
        ((-POLYNOMIAL,), f"polynomial must have degree 53, which {-POLYNOMIAL} has not"),
        ((1 << 80,), f"polynomial must have degree 53, which {1 << 80} has not"),
        ((0,), "polynomial must have degree 53, which 0 has not"),
        ((POLYNOMIAL, 63), "min_size must be between 64 and 4294967295, not 63"),
        ((POLYNOMIAL, -1), "min_size must be between 64 and 4294967295, not -1"),
        ((POLYNOMIAL, 1 << 70), f"min_size must be between 64 and 4294967295, not {1 << 70}"),
        ((POLYNOMIAL, 100, 99), "max_size must be between 100 and 4294967295, not 99"),
        ((POLYNOMIAL, 100, 1 << 32), "max_size must be between 100 and 4294967295, not 4294967296"),
        ((POLYNOMIAL, 100, 100, 0), "average_bits must be between 1 and 32, not 0"),
        ((POLYNOMIAL, 100, 100, 33), "average_bits must be between 1 and 32, not 33"),
    ],
)
def test_impossible_parameters_are_refused(
    kernel: ModuleType, arguments: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        kernel.Chunker(*arguments)
    assert str(caught.value) == message


def test_chunkers_of_several_threads_do_not_disturb_each_other(kernel: ModuleType) -> None:
    size = 4_000_000 if kernel is not reference else 100_000
    inputs = [random.Random(seed).randbytes(size) for seed in range(8)]
    expected = [kernel.Chunker(POLYNOMIAL, 64, 65536, 12).feed(data) for data in inputs]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda data: kernel.Chunker(POLYNOMIAL, 64, 65536, 12).feed(data), inputs))
    assert found == expected


def test_one_chunker_in_two_threads_is_an_error_or_serial(kernel: ModuleType) -> None:
    """Either thread may win, neither may see the other's state half changed, nobody may crash."""
    chunker = kernel.Chunker(POLYNOMIAL, 64, 65536, 10)
    data = bytes(8_000_000) if kernel is not reference else bytes(200_000)
    gate = threading.Barrier(4)
    outcomes: list[object] = []

    def work() -> None:
        gate.wait()
        for _ in range(5):
            try:
                outcomes.append(len(chunker.feed(data)) > 0)
            except RuntimeError as error:
                outcomes.append("in use by another thread" in str(error))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [True] * 20
