"""Arithmetic over GF(2), and the choice of a repository's polynomial."""

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.kernel.polynomial import (
    gcd,
    is_irreducible,
    modulo,
    random_polynomial,
    rolling_tables,
    square,
)
from tests.kernel.vectors import POLYNOMIAL


def product(a: int, b: int) -> int:
    result = 0
    for bit in range(b.bit_length()):
        if b >> bit & 1:
            result ^= a << bit
    return result


def test_irreducible_means_no_product_of_smaller_polynomials() -> None:
    limit = 1 << 11
    products = {product(a, b) for a, b in itertools.product(range(2, 1 << 10), repeat=2) if a <= b}
    assert [p for p in range(2, limit) if is_irreducible(p) == (p in products)] == []


def test_constants_are_not_irreducible() -> None:
    assert not is_irreducible(0)
    assert not is_irreducible(1)


def test_known_polynomial_is_irreducible_and_its_multiples_are_not() -> None:
    assert is_irreducible(POLYNOMIAL)
    assert not is_irreducible(product(POLYNOMIAL, 0b10))
    assert not is_irreducible(product(POLYNOMIAL, POLYNOMIAL))


def test_random_polynomial_is_irreducible_of_degree_53() -> None:
    for _ in range(5):
        polynomial = random_polynomial()
        assert is_irreducible(polynomial)
        assert polynomial >> 53 == 1
        assert polynomial & 1


def test_random_polynomial_is_determined_by_its_source() -> None:
    assert random_polynomial(random.Random(1).randbytes) == random_polynomial(random.Random(1).randbytes)


def test_random_polynomial_takes_the_draw_as_restic_does() -> None:
    drawn = (POLYNOMIAL ^ 1 << 53 ^ 1 ^ 0x3FF << 54).to_bytes(8, "little")
    assert random_polynomial(lambda size: drawn[:size]) == POLYNOMIAL


def test_broken_random_source_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_plugin.kernel.polynomial._MAX_TRIES", 20)
    with pytest.raises(RuntimeError, match="the random source is broken"):
        random_polynomial(bytes)


@given(st.integers(0, 2**200), st.integers(1, 2**60), st.integers(0, 2**60))
def test_remainder_is_small_and_differs_by_a_multiple(a: int, p: int, q: int) -> None:
    assert modulo(a, p).bit_length() < max(p.bit_length(), 1)
    assert modulo(a ^ product(p, q), p) == modulo(a, p)


@given(st.integers(0, 2**60))
def test_square_is_the_product_with_itself(a: int) -> None:
    assert square(a) == product(a, a)


@given(st.integers(1, 2**30), st.integers(1, 2**30), st.integers(1, 2**30))
def test_common_factor_divides_the_gcd(a: int, b: int, common: int) -> None:
    assert modulo(gcd(product(a, common), product(b, common)), common) == 0


@given(st.binary(min_size=65, max_size=200))
def test_rolling_tables_move_the_fingerprint(data: bytes) -> None:
    reduce, leave = rolling_tables(POLYNOMIAL)
    f = modulo(int.from_bytes(data[:64], "big"), POLYNOMIAL)
    for old, new in zip(data, data[64:], strict=False):
        f = f << 8 ^ reduce[f >> 45] ^ leave[old] ^ new
    assert f == modulo(int.from_bytes(data[-64:], "big"), POLYNOMIAL)
