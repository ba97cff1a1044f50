"""Pack files: sealed blobs, the sealed header, and its length as u32.

A header entry is type (u8; +2: compressed), sealed length (u32), plaintext length (u32, only when
compressed) and ID (32 bytes). Offsets follow from the order, so there are no gaps.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_restic.crypto import OVERHEAD, Sealer

_PLAIN = struct.Struct("<BI32s")
_COMPRESSED = struct.Struct("<BII32s")
_LENGTH = struct.Struct("<I")
MAX_HEADER_BYTES = 16 * 1024 * 1024
"""Of the sealed header, restic's limit."""
PLAIN_ENTRY_BYTES = _PLAIN.size
COMPRESSED_ENTRY_BYTES = _COMPRESSED.size
EMPTY_PACK_BYTES = OVERHEAD + _LENGTH.size
"""What a pack takes besides its sealed blobs and their header entries."""
MIN_PACK_BYTES = _PLAIN.size + EMPTY_PACK_BYTES
_FIRST_CAPACITY = 1024 * 1024
_HEADER_GUESS_BYTES = 32 * 1024


class PackEntry(NamedTuple):
    """A blob in a pack; lengths and offset in bytes, ``length`` sealed, ``plain`` 0 when it is
    not compressed."""

    type: BlobType
    id: bytes
    offset: int
    length: int
    plain: int


def encode_header(entries: Sequence[PackEntry]) -> bytes:
    """The plaintext header."""
    return b"".join(
        _COMPRESSED.pack(type_ + 2, length, plain, id_) if plain else _PLAIN.pack(type_, length, id_)
        for type_, id_, _, length, plain in entries
    )


def parse_header(header: Buffer) -> list[PackEntry]:
    """The blobs that a plaintext header lists; FormatError."""
    entries: list[PackEntry] = []
    position = offset = 0
    while position < len(header):
        kind = header[position]
        layout = _COMPRESSED if kind & 2 else _PLAIN
        if kind > 3:
            raise FormatError(f"pack header: unknown blob type {kind}")
        if position + layout.size > len(header):
            raise FormatError("pack header: truncated entry")
        _, length, *plain, id_ = layout.unpack_from(header, position)
        _check_entry(length, offset, plain)
        entries.append(PackEntry(BlobType(kind & 1), id_, offset, length, plain[0] if plain else 0))
        offset += length
        position += layout.size
    return entries


def _check_entry(length: int, offset: int, plain: list[int]) -> None:
    if length < OVERHEAD or offset + length >= 1 << 32:
        raise FormatError(f"pack header: impossible blob of {length} bytes at {offset}")
    if plain == [0]:
        raise FormatError("pack header: compressed blob of no length")


def load_header(load_part: Callable[[int, int], bytes], size: int, sealer: Sealer) -> list[PackEntry]:
    """The blobs of a pack of ``size`` bytes, of which ``load_part(offset, length)`` reads a part;
    FormatError or AuthenticationError unless header and size agree."""
    if size < MIN_PACK_BYTES:
        raise FormatError(f"{size} bytes are too few for a pack")
    begin = max(size - _HEADER_GUESS_BYTES, 0)
    tail = load_part(begin, size - begin)
    if len(tail) != size - begin:
        raise FormatError("pack is shorter than its size")
    (length,) = _LENGTH.unpack(tail[-_LENGTH.size :])
    if not OVERHEAD <= length <= min(size - _LENGTH.size, MAX_HEADER_BYTES):
        raise FormatError(f"pack header of {length} bytes")
    missing = length + _LENGTH.size - len(tail)
    if missing > 0:
        tail = load_part(begin - missing, missing) + tail
    entries = parse_header(sealer.open(tail[-length - _LENGTH.size : -_LENGTH.size]))
    if pack_bytes(entries) != size:
        raise FormatError(f"pack has {size} bytes, its header says {pack_bytes(entries)}")
    return entries


def pack_bytes(entries: Sequence[PackEntry]) -> int:
    """The size of a pack that holds ``entries``."""
    header = sum(_COMPRESSED.size if entry.plain else _PLAIN.size for entry in entries)
    return sum(entry.length for entry in entries) + header + OVERHEAD + _LENGTH.size


class PackBuilder:
    """A pack being filled, in memory: 16 MiB as a rule.

    ``buffer`` is lent for the purpose and grows as needed; buffers that go round save page faults,
    about 0.1 CPU seconds per GB.
    """

    def __init__(self, buffer: bytearray, target_bytes: int, sealer: Sealer, number: int) -> None:
        self.number = number
        self.entries: list[PackEntry] = []
        self.buffer = buffer
        self._view = memoryview(buffer)
        self._used = 0
        self._target = target_bytes
        self._sealer = sealer

    def append(self, type_: BlobType, id_: bytes, stored: Buffer, plain: int) -> PackEntry:
        offset = self._used
        self._reserve(len(stored) + OVERHEAD)
        self._used = self._sealer.seal_into(self._view, offset, stored)
        return self._appended(PackEntry(type_, id_, offset, self._used - offset, plain))

    def append_sealed(self, type_: BlobType, id_: bytes, sealed: Buffer, plain: int) -> PackEntry:
        """A blob as another pack holds it: its seal does not depend on its place."""
        offset = self._used
        self._reserve(len(sealed))
        self._used = offset + len(sealed)
        self._view[offset : self._used] = sealed
        return self._appended(PackEntry(type_, id_, offset, len(sealed), plain))

    def _appended(self, entry: PackEntry) -> PackEntry:
        self.entries.append(entry)
        return entry

    @property
    def is_full(self) -> bool:
        header = OVERHEAD + _LENGTH.size + _COMPRESSED.size * (len(self.entries) + 1)
        return self._used >= self._target or header > MAX_HEADER_BYTES + _LENGTH.size

    def finish(self) -> memoryview:
        """Add the header; the whole pack, a view of ``buffer``, which the caller releases."""
        header = encode_header(self.entries)
        self._reserve(len(header) + OVERHEAD + _LENGTH.size)
        end = self._sealer.seal_into(self._view, self._used, header)
        _LENGTH.pack_into(self._view, end, end - self._used)
        pack = self._view[: end + _LENGTH.size]
        self._view.release()
        return pack

    def _reserve(self, size: int) -> None:
        needed = self._used + size
        capacity = len(self._view)
        if needed <= capacity:
            return
        self._view.release()
        # Doubled only up to the target: what is over that is for one blob, and mostly a small one.
        doubled = min(max(2 * capacity, _FIRST_CAPACITY), self._target + _FIRST_CAPACITY)
        self.buffer.extend(bytes(max(needed, doubled) - capacity))
        self._view = memoryview(self.buffer)
