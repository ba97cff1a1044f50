"""Polynomials over GF(2): the arithmetic under the Rabin fingerprint.

A polynomial is an int whose bit i is the coefficient of x^i. Addition is xor.
"""

import os
from collections.abc import Callable

DEGREE = 53
"""Of every repository polynomial."""

_MAX_TRIES = 10**6
"""Where restic gives up, too. About one odd polynomial in 19 is irreducible."""


def random_polynomial(random_bytes: Callable[[int], bytes] = os.urandom) -> int:
    """An irreducible polynomial of degree 53, drawn as restic draws them.

    ``random_bytes(8)`` is read as a little-endian number of which bits 1 to 52 count. Raises
    ``RuntimeError`` when a million draws yield nothing, which means that the source is not random.
    """
    for _ in range(_MAX_TRIES):
        drawn = int.from_bytes(random_bytes(8), "little")
        candidate = drawn & ((1 << DEGREE) - 1) | 1 << DEGREE | 1
        if is_irreducible(candidate):
            return candidate
    raise RuntimeError("no irreducible polynomial in a million draws: the random source is broken")


def is_irreducible(p: int) -> bool:
    """True if p, of any degree, has no factor but itself and 1 (Ben-Or's test).

    x^(2^i) - x is the product of all irreducible polynomials whose degree divides i, so a reducible p
    shares a factor with it for some i up to half the degree of p.
    """
    degree = p.bit_length() - 1
    if degree < 1:
        return False
    power = 0b10
    for _ in range(degree // 2):
        power = modulo(square(power), p)
        if gcd(p, power ^ 0b10) != 1:
            return False
    return True


def modulo(a: int, p: int) -> int:
    """The remainder of a divided by p (not 0)."""
    length = p.bit_length()
    while (excess := a.bit_length() - length) >= 0:
        a ^= p << excess
    return a


def gcd(a: int, b: int) -> int:
    """The greatest common divisor."""
    while b:
        a, b = b, modulo(a, b)
    return a


def square(a: int) -> int:
    """a times a: over GF(2) that spreads the bits, x^i becoming x^(2i)."""
    return int(bin(a)[2:], 4)


def multiples(factor: int, p: int) -> list[int]:
    """t * factor mod p for all bytes t, for a factor of lower degree than p."""
    table = [0]
    for _ in range(8):
        table += [value ^ factor for value in table]
        factor = modulo(factor << 1, p)
    return table


def rolling_tables(p: int, window: int = 64) -> tuple[list[int], list[int]]:
    """Tables (reduce, leave) for moving a fingerprint f of ``window`` bytes by one byte.

    With k the degree of p, byte ``new`` entering and ``old`` leaving::

        f = f << 8 ^ reduce[f >> k - 8] ^ leave[old] ^ new
    """
    degree = p.bit_length() - 1
    reduced = multiples(modulo(1 << degree, p), p)
    power = 1
    for _ in range(8 * window):
        power = modulo(power << 1, p)
    return [value ^ t << degree for t, value in enumerate(reduced)], multiples(power, p)
