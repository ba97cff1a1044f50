"""Chunks equal restic's, byte for byte, in both kernels."""

import hashlib
from collections.abc import Iterator
from types import ModuleType

from cdr_plugin.kernel.polynomial import modulo
from tests.kernel.go_random import Source
from tests.kernel.vectors import (
    GO_16_TO_32_MIB,
    GO_19_BITS,
    GO_DATA_SHA256,
    GO_DEFAULT,
    POLYNOMIAL,
    SHAKE_DATA_SHA256,
    SHAKE_DEFAULT,
    ZEROS,
)

MIB = 1 << 20


def split(kernel: ModuleType, data: bytes, **parameters: int) -> Iterator[bytes]:
    start = 0
    for end in [*kernel.Chunker(POLYNOMIAL, **parameters).feed(data), len(data)]:
        if end > start:
            yield data[start:end]
        start = end


def fingerprint(chunk: bytes) -> int:
    return modulo(int.from_bytes(chunk[-64:], "big"), POLYNOMIAL)


def assert_chunks(chunks: Iterator[bytes], expected: list[tuple[int, int | None, str]]) -> None:
    rows = [
        (len(chunk), None if wanted is None else fingerprint(chunk), hashlib.sha256(chunk).hexdigest())
        for chunk, (_, wanted, _) in zip(chunks, expected, strict=True)
    ]
    assert rows == expected


def test_go_random_source_gives_the_values_go_gives() -> None:
    values = [value & 2**63 - 1 for value in Source(1).take(3)]
    assert values == [5577006791947779410, 8674665223082153551, 6129484611666145821]


def test_go_data_is_the_published_data(go_data: bytes) -> None:
    assert hashlib.sha256(go_data).hexdigest() == GO_DATA_SHA256


def test_default_settings_give_the_23_published_chunks(kernel: ModuleType, go_data: bytes) -> None:
    assert_chunks(split(kernel, go_data), GO_DEFAULT)


def test_nineteen_bits_give_the_31_published_lengths(kernel: ModuleType, go_data: bytes) -> None:
    assert [len(chunk) for chunk in split(kernel, go_data, average_bits=19)] == GO_19_BITS


def test_16_to_32_mib_gives_the_2_published_chunks(kernel: ModuleType, go_data: bytes) -> None:
    assert_chunks(split(kernel, go_data, min_size=16 * MIB, max_size=32 * MIB), GO_16_TO_32_MIB)


def test_zeros_are_cut_at_the_minimum(kernel: ModuleType) -> None:
    assert_chunks(split(kernel, bytes(2 * MIB)), ZEROS)


def test_shake_data_gives_the_9_known_chunks(kernel: ModuleType) -> None:
    data = hashlib.shake_128(b"chunker").digest(16 * MIB)
    assert hashlib.sha256(data).hexdigest() == SHAKE_DATA_SHA256
    assert_chunks(split(kernel, data), SHAKE_DEFAULT)


def test_0xff_bytes_are_cut_at_the_maximum(kernel: ModuleType) -> None:
    lengths = [len(chunk) for chunk in split(kernel, b"\xff" * (20 * MIB))]
    assert lengths == [8 * MIB, 8 * MIB, 4 * MIB]
