"""In which blobs of an older content, however long it is, blocks of a blob may be found, in plain Python."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from operator import index, itemgetter
from typing import TypeAlias

from .arguments import check
from .block_match import BlockSigner, blob_bytes, pieces_of

_Buffer: TypeAlias = bytes | bytearray | memoryview

MOST_SAMPLED = 2**28
_LEAST_MASK = 3


class BlockSample:
    """A sample of at most ``most`` (1 to 2^28) different blocks of an older content.

    ``blobs``: a tuple (length, phase, values) for each blob of the old content, in order, as in ``BlockIndex``.
    They are iterated over once, and not kept. Sampled are blocks whose hash ends in a number of zero bits,
    two or as many more as ``most`` asks for: in the old content as in a new one. Blocks of zeros are not.

    Immutable; any number of threads may use it.
    """

    def __init__(self, signer: BlockSigner, blobs: Iterable[tuple[int, int, bytes]], most: int) -> None:
        if not isinstance(signer, BlockSigner):
            raise TypeError("signer must be a BlockSigner")
        check("most", most, 1, MOST_SAMPLED)
        self._signer = signer
        self._mask = _LEAST_MASK
        self._blobs: dict[int, int] = {}
        for number, row in enumerate(blobs):
            for value in self._block_values(row):
                if self._is_sampled(value):
                    self._blobs.setdefault(value, number)
                while len(self._blobs) > most:
                    self._mask = 2 * self._mask + 1
                    self._blobs = {value: blob for value, blob in self._blobs.items() if self._is_sampled(value)}

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the sample takes, about."""
        return 150 * len(self._blobs)

    def find(self, blob: _Buffer, low: int, high: int, /) -> bytes:
        """Where the blocks between ``low`` and ``high`` of a blob occur first: numbers of old blobs, from 0, packed
        as <I. Of each ``block_size`` positions in a row, from ``low`` on, the first block found counts."""
        data = blob_bytes(blob)
        check("low", low, 0, len(data))
        check("high", high, low, len(data))
        positions = enumerate(self._signer.rolling(data, index(low), index(high)))
        size = self._signer.block_size
        found = ((at // size, self._blobs[value]) for at, value in positions if value in self._blobs)
        firsts = (next(group)[1] for _, group in groupby(found, key=itemgetter(0)))
        return b"".join(number.to_bytes(4, "little") for number in firsts)

    def _block_values(self, row: tuple[int, int, bytes]) -> Iterable[int]:
        """The hashes of the whole blocks."""
        if not isinstance(row, tuple) or len(row) != 3 or not isinstance(row[2], bytes):
            raise TypeError("a blob must be a tuple (length, phase, values)")
        length, phase, values = row
        pieces = pieces_of(self._signer, length, phase, values)
        return (value for at, end, value in pieces if end - at == self._signer.block_size)

    def _is_sampled(self, value: int) -> bool:
        return value != 0 and not value & self._mask
