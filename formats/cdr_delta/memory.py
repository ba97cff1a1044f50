"""What a client remembers of a blob: a small header, and a keyed 61-bit hash of each block.

::

    offset size  meaning (integers little-endian)
         0    1  1: the layout
         1    1  base-2 logarithm of the block size
         2    2  phase: place of the blob's first byte in its block
         4    4  tells the key apart from others
         8   8n  BlockSigner.sign: the part of a block, the blocks, the part of a block

Memories live in the client's state only. One of another key, layout or block size is no memory.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple

from cdr_plugin.contracts import Base
from cdr_plugin.kernel import BlockSigner
from cdr_plugin.model.blobs import Buffer

_HEADER = struct.Struct("<BBH4s")
_LAYOUT = 1
_VALUE_BYTES = 8
_MOST_PERCENT = 2
"""Of the blob. Smaller blobs, below four blocks of 512 bytes, would hardly match block by block anyway."""

_MAX_POINT = 2**60 - 1


class Signature(NamedTuple):
    """``values``: what ``BlockSigner.sign`` gave for the blob at ``phase``; empty where nothing is known."""

    phase: int
    values: bytes


UNKNOWN = Signature(0, b"")


class Memories:
    """Makes and reads memories of one key and block size. Immutable; for any number of threads.

    Without a key nothing is remembered, but blobs whose bytes are at hand can still be signed.
    """

    def __init__(self, key: bytes | None, block_size: int) -> None:
        secret = key or os.urandom(32)
        point = int.from_bytes(_derive(b"point", secret)[:8], "little") % (_MAX_POINT - 1) + 2
        self.signer = BlockSigner(point, block_size)
        self.block_size = block_size
        self._check = _derive(b"check", secret)[:4]
        self._keeps = key is not None

    def make(self, blob: Buffer, offset: int) -> bytes:
        """The memory of a blob at ``offset`` in its file; empty where it would pass 2 % of the blob."""
        phase = offset % self.block_size
        size = _HEADER.size + _VALUE_BYTES * _count_pieces(len(blob), phase, self.block_size)
        if not self._keeps or 100 * size > _MOST_PERCENT * len(blob):
            return b""
        header = _HEADER.pack(_LAYOUT, self.block_size.bit_length() - 1, phase, self._check)
        return header + self.signer.sign(blob, phase)

    def read(self, base: Base, offset: int, data: Callable[[], bytes | None]) -> Signature:
        """What is known of a base at ``offset`` in the old content, from its memory or else its ``data``."""
        signature = self.parse(base)
        if signature.values or not base.has_data:
            return signature
        found = data()
        if found is None or len(found) != base.length:
            return UNKNOWN
        phase = offset % self.block_size
        return Signature(phase, self.signer.sign(found, phase))

    def parse(self, base: Base) -> Signature:
        """What the memory of a base says."""
        if len(base.memory) < _HEADER.size:
            return UNKNOWN
        layout, bits, phase, check = _HEADER.unpack_from(base.memory)
        if (layout, 1 << bits, check) != (_LAYOUT, self.block_size, self._check) or phase >= self.block_size:
            return UNKNOWN
        pieces = _count_pieces(base.length, phase, self.block_size)
        if len(base.memory) != _HEADER.size + _VALUE_BYTES * pieces:
            return UNKNOWN
        return Signature(phase, base.memory[_HEADER.size :])


def _derive(purpose: bytes, secret: bytes) -> bytes:
    return sha256(b"cdr/1 delta " + purpose + secret).digest()


def _count_pieces(length: int, phase: int, block_size: int) -> int:
    return (phase + length + block_size - 1) // block_size if length else 0
