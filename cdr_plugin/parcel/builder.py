"""Collects records into segments of about the target size, while the version is being made."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgpack

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.attestation import SignedAttestation
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.limits import (
    DEFAULT_SEGMENT_BYTES,
    MAX_TARGET_BYTES,
    MIN_SEGMENT_BYTES,
    PART_OVERHEAD_BYTES,
)
from cdr_plugin.parcel.records import (
    ATTESTATION,
    FIRST_PART,
    INTRODUCTION,
    PART,
    PAYLOAD,
    PREAMBLE,
    VERSION,
    Preamble,
)
from cdr_plugin.parcel.version import SignedVersionRecord

_BIN32 = b"\xc6"
_BIG_BYTES = 1 << 16
"""From here on data is copied straight behind a bin32 header; the packer would copy it thrice."""


class SegmentBuilder:
    """Takes records, gives back the plaintext of each segment that is full. One thread at a time.

    A segment is full at ``target`` bytes. A payload may overshoot by a quarter, since a whole
    payload costs its reader less than two parts; bigger ones span segments.
    """

    def __init__(self, preamble: Preamble, target: int = DEFAULT_SEGMENT_BYTES) -> None:
        if not MIN_SEGMENT_BYTES <= target <= MAX_TARGET_BYTES:
            raise FormatError(f"segment size {target}: choose {MIN_SEGMENT_BYTES} to {MAX_TARGET_BYTES} bytes")
        self._pack = msgpack.Packer().pack
        self._target = target
        self._most = target + target // 4 - PART_OVERHEAD_BYTES
        self._preamble = self._packed_preamble(preamble)
        self._out = bytearray(self._preamble)
        self._empty = True

    def __len__(self) -> int:
        """Bytes of the segment now open; 0 when it holds no record yet."""
        return 0 if self._empty else len(self._out)

    def begin(self, preamble: Preamble) -> None:
        """What is added from now on belongs to another version."""
        self._preamble = self._packed_preamble(preamble)
        if self._empty:
            self._out = bytearray(self._preamble)
        else:
            self._out += self._preamble

    def add_payload(self, payload: Payload) -> Iterable[bytearray]:
        """Segments that this payload completed: mostly none. They are the caller's; they must all
        be taken before the next call, a payload that spans segments makes them one by one."""
        data = payload.data
        size = len(data)
        out = self._out
        if len(out) + size > self._most:
            return self._span(payload)
        if size < _BIG_BYTES:
            out += self._pack((PAYLOAD, payload.type, payload.id, payload.method, payload.length, data))
        else:
            self._append_big((PAYLOAD, payload.type, payload.id, payload.method, payload.length), payload, 0, size)
        self._empty = False
        return (self._cut(),) if len(out) >= self._target else ()

    def add_attestation(self, attestation: SignedAttestation) -> Iterable[bytearray]:
        """As ``add_payload``."""
        return self._add_whole((ATTESTATION, attestation.body, attestation.signature))

    def add_version(self, record: SignedVersionRecord) -> Iterable[bytearray]:
        """As ``add_payload``; readers want it behind everything that it refers to."""
        return self._add_whole((VERSION, record.body, record.signature))

    def add_introduction(self, introduction: Introduction) -> Iterable[bytearray]:
        """As ``add_payload``; of the client that the preamble names, before any other record of it."""
        return self._add_whole((INTRODUCTION, introduction.to_bytes()))

    def finish(self) -> bytearray | None:
        """The open segment, or None when it holds no record; the next record starts a new one."""
        return None if self._empty else self._cut()

    def _add_whole(self, fields: tuple[int | bytes, ...]) -> Iterable[bytearray]:
        self._out += self._pack(fields)
        self._empty = False
        return (self._cut(),) if len(self._out) >= self._target else ()

    def _span(self, payload: Payload) -> Iterator[bytearray]:
        size = len(payload.data)
        if self._target - len(self._out) - PART_OVERHEAD_BYTES < self._target // 16 and not self._empty:
            yield self._cut()
            if len(self._out) + size <= self._most:
                yield from self.add_payload(payload)
                return
        start = min(size - 1, self._room())
        head = (FIRST_PART, payload.type, payload.id, payload.method, payload.length, size)
        self._append_big(head, payload, 0, start)
        sequence = 0
        while start < size:
            yield self._cut()
            sequence += 1
            end = min(size, start + self._room())
            self._append_big((PART, payload.type, payload.id, sequence, end == size), payload, start, end)
            start = end
        self._empty = False
        if len(self._out) >= self._target:
            yield self._cut()

    def _room(self) -> int:
        return self._target - len(self._out) - PART_OVERHEAD_BYTES

    def _append_big(self, head: tuple[object, ...], payload: Payload, start: int, end: int) -> None:
        packed = self._pack(head)
        with memoryview(payload.data) as view, view[start:end] as piece:
            out = self._out
            out += bytes((packed[0] + 1,))  # a short array's header byte holds its length
            out += packed[1:]
            out += _BIN32 + (end - start).to_bytes(4, "big")
            out += piece

    def _cut(self) -> bytearray:
        done, self._out = self._out, bytearray(self._preamble)
        self._empty = True
        return done

    def _packed_preamble(self, preamble: Preamble) -> bytes:
        fields = (
            PREAMBLE,
            preamble.format,
            preamble.number,
            preamble.client,
            preamble.chunker,
            preamble.program,
        )
        packed: bytes = self._pack(fields)
        return packed
