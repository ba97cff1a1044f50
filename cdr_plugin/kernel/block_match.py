"""Which blocks of older content a blob repeats, in plain Python; ``block_hash.h`` has the algebra of the hash.

Blocks lie on a grid of which a blob's *phase* is the place of its first byte, 0 to ``block_size`` - 1, so that
pages of a file match in place although blobs are cut anywhere. The *pieces* of a blob are part of a
block, whole blocks, and part of a block, the first and the last only where there are such parts.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from operator import index, mul
from typing import NamedTuple, TypeAlias

from .arguments import check
from .copy_record import COPY_RECORD

_Buffer: TypeAlias = bytes | bytearray | memoryview

PRIME = 2**61 - 1
MAX_POINT = 2**60 - 1
MIN_BLOCK_SIZE = 512
MAX_BLOCK_SIZE = 65536
MAX_BLOCKS = 2**21 - 2
_STRETCH = 256


class BlockSigner:
    """Hashes pieces at the secret ``point`` (2 to 2^60 - 1), blocks having ``block_size`` bytes (512 to 65536).

    Immutable; any number of threads may use it.
    """

    def __init__(self, point: int, block_size: int) -> None:
        check("point", point, 2, MAX_POINT)
        check("block_size", block_size, MIN_BLOCK_SIZE, MAX_BLOCK_SIZE)
        self._point = index(point)
        self._size = index(block_size)
        self._powers = [pow(point, _STRETCH - 1 - at, PRIME) for at in range(_STRETCH)]
        self._stretch_power = pow(point, _STRETCH, PRIME)
        self._leave = [-byte * pow(point, block_size, PRIME) for byte in range(256)]

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self._size

    def sign(self, data: _Buffer, phase: int, /) -> bytes:
        """The hash of each piece of a blob, 8 bytes each, little-endian."""
        check("phase", phase, 0, self._size - 1)
        octets = blob_bytes(data)
        ends = [0, *self.piece_ends(len(octets), index(phase))]
        return b"".join(self.hash(octets[at:end]).to_bytes(8, "little") for at, end in pairwise(ends))

    def piece_ends(self, length: int, phase: int) -> Sequence[int]:
        """Where the pieces of a blob end."""
        ends = list(range(self._size - phase, length, self._size))
        return [*ends, length] if length else []

    def hash(self, run: bytes) -> int:
        """Of any run of bytes, 0 to 2^61 - 2."""
        odd = len(run) % _STRETCH
        value: int = sum(map(mul, run[:odd], self._powers[_STRETCH - odd :]))
        for at in range(odd, len(run), _STRETCH):
            value = (value * self._stretch_power + sum(map(mul, run[at : at + _STRETCH], self._powers))) % PRIME
        return value % PRIME

    def rolling(self, data: bytes, low: int, high: int) -> Iterator[int]:
        """The hash of the block at each position from which a whole one lies within ``low`` and ``high``."""
        if high - low < self._size:
            return
        value = self.hash(data[low : low + self._size])
        yield value
        for leaving, entering in zip(data[low:high], data[low + self._size : high], strict=False):
            value = (value * self._point + entering + self._leave[leaving]) % PRIME
            yield value


class _Piece(NamedTuple):
    """``old``: where it lies in the old content."""

    old: int
    length: int
    value: int


class BlockIndex:
    """Finds the known blocks of an older content in blobs.

    ``blobs``: tuples (start, length, phase, values) of the old content, ascending: where the blob lies, its
    bytes, and what ``BlockSigner.sign`` gave for it, as bytes, or nothing where that is not known. At
    most ``MAX_BLOCKS`` whole blocks. Raises ``ValueError`` for rows that contradict each other.

    Immutable; any number of threads may use it. The values are referred to, not copied.
    """

    def __init__(self, signer: BlockSigner, blobs: Sequence[tuple[int, int, int, bytes]]) -> None:
        if not isinstance(signer, BlockSigner):
            raise TypeError("signer must be a BlockSigner")
        self._signer = signer
        self._pieces: list[_Piece] = []
        self._blocks: dict[int, int] = {}
        least = blocks = 0
        for row in blobs:
            pieces = _pieces_of_row(signer, row, least)
            blocks += _whole_blocks(signer, row) if pieces else 0
            if blocks > MAX_BLOCKS:
                raise ValueError(f"an index holds at most {MAX_BLOCKS} blocks")
            self._add(pieces)
            least = row[0] + row[1]
        self._starts = [piece.old for piece in self._pieces]

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the index takes beside the values, about."""
        return 400 * len(self._pieces)

    def match(self, blob: _Buffer, offset: int, /) -> bytes:
        """Copies that make up parts of a blob, ascending and apart from each other, as packed ``COPY_RECORD``.

        The blob begins ``offset`` bytes into the new content. Every piece that is found unchanged at its
        old place is copied from there. What lies between is searched for whole blocks, from the left,
        the first of equal ones being taken; the pieces behind a block that was found follow it as
        long as they are the same. Copies that continue each other are one.
        """
        check("offset", offset, 0, 2**63 - 1)
        data = blob_bytes(blob)
        copies: list[list[int]] = []
        at = 0
        for piece_at, piece in list(self._unchanged(data, 0, len(data), index(offset))):
            self._search(data, at, piece_at, copies)
            _add_copy(copies, piece_at, piece.length, piece.old)
            at = piece_at + piece.length
        self._search(data, at, len(data), copies)
        return b"".join(COPY_RECORD.pack(*copy) for copy in copies)

    def _add(self, pieces: Sequence[_Piece]) -> None:
        for piece in pieces:
            if piece.length == self._signer.block_size:  # a part of a block is shorter
                self._blocks.setdefault(piece.value, piece.old)
        self._pieces += pieces

    def _unchanged(self, data: bytes, low: int, high: int, old: int) -> Iterator[tuple[int, _Piece]]:
        """The pieces from ``old`` on which the data from ``low`` on repeats, and where they lie in it."""
        for number in range(bisect_right(self._starts, old - 1), len(self._pieces)):
            piece = self._pieces[number]
            at = low + piece.old - old
            if at + piece.length > high:
                return
            if self._signer.hash(data[at : at + piece.length]) == piece.value:
                yield at, piece

    def _search(self, data: bytes, low: int, high: int, copies: list[list[int]]) -> None:
        while (found := self._find(data, low, high)) is not None:
            at, old = found
            low = at + self._signer.block_size
            _add_copy(copies, at, self._signer.block_size, old)
            for follows, piece in self._unchanged(data, low, high, low - at + old):
                if follows != low:
                    break
                _add_copy(copies, follows, piece.length, piece.old)
                low += piece.length

    def _find(self, data: bytes, low: int, high: int) -> tuple[int, int] | None:
        if not self._blocks:
            return None
        for at, value in enumerate(self._signer.rolling(data, low, high), low):
            if (old := self._blocks.get(value)) is not None:
                return at, old
        return None


def _pieces_of_row(signer: BlockSigner, row: tuple[int, int, int, bytes], least: int) -> list[_Piece]:
    if not isinstance(row, tuple) or len(row) != 4 or not isinstance(row[3], bytes):
        raise TypeError("a blob must be a tuple (start, length, phase, values)")
    start, length, phase, values = row
    check("start", start, least, 2**63 - 1)
    return [_Piece(start + at, end - at, value) for at, end, value in pieces_of(signer, length, phase, values)]


def pieces_of(signer: BlockSigner, length: int, phase: int, values: bytes) -> list[tuple[int, int, int]]:
    """Beginning, end and hash of each piece of a blob of which ``values`` are known; ValueError."""
    check("length", length, 0, 2**32 - 1)
    check("phase", phase, 0, signer.block_size - 1)
    if not values:
        return []
    ends = [0, *signer.piece_ends(length, phase)]
    if len(values) != 8 * (len(ends) - 1):
        raise ValueError(f"a blob of {length} bytes does not have {len(values)} bytes of values")
    hashes = struct.iter_unpack("<Q", values)
    return [(at, end, value) for (at, end), (value,) in zip(pairwise(ends), hashes, strict=True)]


def _whole_blocks(signer: BlockSigner, row: tuple[int, int, int, bytes]) -> int:
    return max(row[1] - -row[2] % signer.block_size, 0) // signer.block_size


def _add_copy(copies: list[list[int]], new: int, length: int, old: int) -> None:
    """Append, or prolong the last one."""
    if copies and copies[-1][0] + copies[-1][1] == new and copies[-1][2] + copies[-1][1] == old:
        copies[-1][1] += length
    else:
        copies.append([new, length, old])


def blob_bytes(data: _Buffer) -> bytes:
    """Of a buffer that is a blob; ValueError."""
    octets = bytes(memoryview(data).cast("B"))
    if len(octets) >= 2**32:
        raise ValueError("a blob must be smaller than 4 GiB")
    return octets
