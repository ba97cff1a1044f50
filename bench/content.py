"""Bytes from a seed that compress like real ones: words, log lines, records, noise."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from random import Random

VOCABULARY = 6000
"""Words; with Zipf's frequencies the text compresses about as source code and prose do."""

POOL_BYTES = 16 << 20
LETTERS = "etaoinshrdlucmfwypvbgkjqxz_"


class Content:
    """Makes contents from one random source; the same seed gives the same bytes in the same order."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._pool = self._text_pool()

    def _text_pool(self) -> bytes:
        random = self._random
        words = ["".join(random.choices(LETTERS, k=random.randint(2, 11))) for _ in range(VOCABULARY)]
        weights = list(accumulate(1 / (rank + 3) for rank in range(VOCABULARY)))
        lines: list[str] = []
        size = 0
        while size < POOL_BYTES:
            line = " " * random.choice((0, 0, 4, 8)) + " ".join(
                random.choices(words, cum_weights=weights, k=random.randint(2, 14))
            )
            lines.append(line)
            size += len(line) + 1
        return "\n".join(lines).encode()

    def text(self, size: int) -> bytes:
        """Lines of words, pieced together at random so that no two texts are alike."""
        random, pool = self._random, self._pool
        pieces = []
        have = 0
        while have < size:
            start = random.randrange(len(pool) - 2048)
            piece = pool[start : start + random.randint(80, 2000)]
            pieces.append(piece)
            have += len(piece)
        return b"".join(pieces)[:size]

    def noise(self, size: int) -> bytes:
        """Incompressible."""
        return self._random.randbytes(size)

    def binary(self, size: int) -> bytes:
        """Like a library or an image with a header: about half of it compresses away."""
        pieces = []
        for start in range(0, size, 512):
            piece = min(512, size - start)
            pieces.append(self.noise(piece) if self._random.random() < 0.4 else self.table(piece))
        return b"".join(pieces)

    def table(self, size: int) -> bytes:
        """Fixed-width records whose fields change slowly."""
        first = self._random.getrandbits(24)
        offsets = range(first, first + 24 * (size // 12 + 1), 24)
        return b"".join(offset.to_bytes(8, "little") + b"\x00\x01\x00\xff" for offset in offsets)[:size]

    def log_lines(self, size: int) -> Iterator[bytes]:
        """Log lines of ``size`` bytes altogether, in pieces of about 64 KiB."""
        random = self._random
        clock = 1_700_000_000
        have = 0
        while have < size:
            lines = []
            for message in self.text(48_000).split(b"\n"):
                clock += random.randint(0, 3)
                origin = b"host-%d service[%d]" % (clock % 7, 400 + clock % 90)
                lines.append(b"%d %s: %s\n" % (clock, origin, message.strip()))
            piece = b"".join(lines)[: size - have]
            have += len(piece)
            yield piece
