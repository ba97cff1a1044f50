"""Go's math/rand (version 1) from its definition: an additive lagged Fibonacci generator.

All arithmetic is modulo 2**64. Go carries the constants K as a table of 607 numbers, which is the state
of the unseasoned generator after 7.8e12 steps; here they are computed by jumping there.
"""

import sys
from array import array

LONG, SHORT = 607, 334
MASK = 2**64 - 1
WARM_UP_STEPS = 7_800_000_000_000


class Source:
    """``rand.NewSource(seed)``."""

    def __init__(self, seed: int) -> None:
        state = seeding(seed, 40, 20, constants())
        self._recent = [state[(SHORT - 1 - j) % LONG] for j in range(LONG)]

    def take(self, count: int) -> list[int]:
        """The next ``count`` values of ``Uint64``."""
        values = self._recent
        step = LONG - SHORT
        for start in range(0, count, step):
            older, newer = values[start : start + step], values[start + SHORT : start + LONG]
            values += [(a + b) & MASK for a, b in zip(older, newer, strict=True)]
        self._recent = values[count : count + LONG]
        return values[LONG : LONG + count]

    def uint32_bytes(self, size: int) -> bytes:
        """``size`` bytes of little-endian ``Uint32`` values."""
        values = array("I")
        for start in range(0, size // 4, 1 << 18):
            count = min(1 << 18, size // 4 - start)
            values.extend(value >> 31 & 0xFFFFFFFF for value in self.take(count))
        if sys.byteorder == "big":
            values.byteswap()
        return values.tobytes()


def seeding(seed: int, shift1: int, shift2: int, k: list[int]) -> list[int]:
    x = seed % (2**31 - 1) or 89482311

    def lcg() -> int:
        nonlocal x
        x = 48271 * x % (2**31 - 1)
        return x

    for _ in range(20):
        lcg()
    return [(lcg() << shift1 ^ lcg() << shift2 ^ lcg() ^ k[i]) & MASK for i in range(LONG)]


def constants() -> list[int]:
    """The table K: jump ahead by x^N modulo x^607 - x^334 - 1."""
    start = seeding(1, 20, 10, [0] * LONG)
    a = [start[(SHORT - 1 - j) % LONG] for j in range(LONG)]
    for n in range(LONG):
        a.append((a[n] + a[n + SHORT]) & MASK)
    r = power_of_x(WARM_UP_STEPS)
    state = [0] * LONG
    for j in range(LONG):
        ahead = sum(x * y for x, y in zip(r, a[j : j + LONG], strict=True)) & MASK
        state[(SHORT - 1 - WARM_UP_STEPS - j) % LONG] = ahead
    return state


def power_of_x(exponent: int) -> list[int]:
    """Coefficients of x^exponent, low order first."""
    r = [1] + [0] * (LONG - 1)
    for bit in bin(exponent)[2:]:
        r = reduced(squared(r))
        if bit == "1":
            r = reduced([0, *r])
    return r


def squared(r: list[int]) -> list[int]:
    """By one multiplication of integers: 18 bytes per coefficient hold 607 products of 128 bits."""
    packed = int.from_bytes(b"".join(c.to_bytes(18, "little") for c in r), "little")
    data = (packed * packed).to_bytes(18 * 2 * LONG, "little")
    return [int.from_bytes(data[i : i + 8], "little") for i in range(0, len(data), 18)]


def reduced(r: list[int]) -> list[int]:
    for i in range(len(r) - 1, LONG - 1, -1):
        r[i - LONG] = (r[i - LONG] + r[i]) & MASK
        r[i - LONG + SHORT] = (r[i - LONG + SHORT] + r[i]) & MASK
    return r[:LONG]
