"""The payload ``delta/1`` up to its frames: bases and copies; ``docs/wire-format.md`` has the byte table.

The bases lie one behind the other in one *old space*, in which copies and contexts are addressed. A copy
may reach over the border of two bases.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

from cdr_plugin.errors import PayloadError
from cdr_plugin.model.blobs import BlobId, BlobType, Buffer

from .varint import read_varint, to_signed, to_unsigned, write_varint

ID_BYTES = 32
MAX_BASES = 64
"""A receiver reads all of them for one payload of a few bytes. A blob of 8 MiB replaces about 8 others,
at most 17."""

MAX_COPIES = 32_768
"""A decoder keeps them as Python objects, about 200 bytes each. An 8 MiB blob has 16,384 blocks of 512 bytes."""

MAX_PARTS = 2 * MAX_COPIES
"""Of copies, and of contexts, counted again at each border of bases that they reach over."""

MAX_BASE_BYTES = 2**32 - 1
MAX_CONTEXT_BYTES = 8 * 1024 * 1024

_TREE = 1
_CONTEXT = 2


class Copy(NamedTuple):
    """``length`` bytes from ``old`` in the old space to ``new`` in the blob."""

    new: int
    old: int
    length: int


class Plan(NamedTuple):
    """How a blob comes from its bases. ``copies`` ascend and do not overlap; what lies between them are
    literals, which are compressed with a context of old bytes if ``has_context``."""

    type: BlobType
    bases: Sequence[tuple[BlobId, int]]
    copies: Sequence[Copy]
    has_context: bool

    @property
    def old_bytes(self) -> int:
        """Size of the old space."""
        return sum(length for _, length in self.bases)

    def gaps(self, length: int) -> Iterator[tuple[int, int]]:
        """Start and end of each run of literals in a blob of ``length`` bytes."""
        at = 0
        for copy in self.copies:
            if copy.new > at:
                yield at, copy.new
            at = copy.new + copy.length
        if length > at:
            yield at, length

    def contexts(self, length: int) -> list[Copy]:
        """What stands opposite to each gap in the old space, and where it goes in the context, one behind the
        other up to ``MAX_CONTEXT_BYTES``; all of the old space where nothing is copied."""
        spans: list[Copy] = []
        size = 0
        for at, end in self._opposite(length) if self.has_context else ():
            count = min(end - at, MAX_CONTEXT_BYTES - size)
            if count > 0:
                spans.append(Copy(size, at, count))
                size += count
        return spans

    def _opposite(self, length: int) -> Iterator[tuple[int, int]]:
        if not self.copies:
            yield 0, self.old_bytes
            return
        new = old = None
        for copy in self.copies:
            size = copy.new - (new or 0)
            start = max(copy.old - size, 0) if old is None else old
            end = copy.old
            # Insertions and deletions make the old bytes fewer or more than the new ones; farther away
            # than this, the next copy is from somewhere else.
            if not start <= end <= start + 2 * size + 256:
                end = start + size
            if size:
                yield start, min(end, self.old_bytes)
            new, old = copy.new + copy.length, copy.old + copy.length
        if new is not None and old is not None and length > new:
            yield old, min(old + length - new, self.old_bytes)


def write_plan(plan: Plan) -> bytearray:
    """The bytes before the frames."""
    flags = (_TREE if plan.type is BlobType.TREE else 0) | (_CONTEXT if plan.has_context else 0)
    out = bytearray((flags, len(plan.bases)))
    for id_, _ in plan.bases:
        out += id_
    for _, length in plan.bases:
        write_varint(out, length)
    write_varint(out, len(plan.copies))
    new = old = 0
    for copy in plan.copies:
        literals = copy.new - new
        moved = copy.old - (old + literals)
        write_varint(out, literals)
        write_varint(out, copy.length << 1 | (moved != 0))
        if moved:
            write_varint(out, to_unsigned(moved))
        new, old = copy.new + copy.length, copy.old + copy.length
    return out


def read_bases(data: Buffer) -> list[BlobId]:
    """The bases of a payload, from its head alone; PayloadError."""
    count = data[1] if len(data) > 1 else 0
    if not 1 <= count <= MAX_BASES or len(data) < 2 + ID_BYTES * count or data[0] > _TREE | _CONTEXT:
        raise PayloadError(f"delta payload of {len(data)} bytes: no valid head")
    ids = [BlobId(bytes(data[at : at + ID_BYTES])) for at in range(2, 2 + ID_BYTES * count, ID_BYTES)]
    if len(set(ids)) != count:
        raise PayloadError("delta payload: a base is named twice")
    return ids


def read_plan(data: Buffer, length: int) -> tuple[Plan, int]:
    """The plan for a blob of ``length`` bytes, and where its frames begin; PayloadError."""
    ids = read_bases(data)
    at = 2 + ID_BYTES * len(ids)
    lengths = []
    for _ in ids:
        size, at = read_varint(data, at, MAX_BASE_BYTES)
        lengths.append(size)
    copies, at = _read_copies(data, at, length, sum(lengths))
    type_ = BlobType.TREE if data[0] & _TREE else BlobType.DATA
    return Plan(type_, list(zip(ids, lengths, strict=True)), copies, bool(data[0] & _CONTEXT)), at


def _read_copies(data: Buffer, at: int, length: int, old_bytes: int) -> tuple[list[Copy], int]:
    count, at = read_varint(data, at, MAX_COPIES)
    copies = []
    new = old = 0
    for _ in range(count):
        literals, at = read_varint(data, at, length)
        tagged, at = read_varint(data, at, length << 1 | 1)
        moved = 0
        if tagged & 1:
            zigzag, at = read_varint(data, at, old_bytes + length << 1)
            moved = to_signed(zigzag)
        copy = Copy(new + literals, old + literals + moved, tagged >> 1)
        new, old = copy.new + copy.length, copy.old + copy.length
        if copy.length < 1 or new > length or copy.old < 0 or old > old_bytes:
            raise PayloadError(f"delta payload: a copy of {copy.length} bytes reaches beyond the blob or its bases")
        copies.append(copy)
    return copies, at


def split_by_base(plan: Plan, spans: Sequence[Copy]) -> list[list[Copy]]:
    """For each base, the parts of ``spans`` that lie in it, ``old`` counted from its start. PayloadError where
    there are more than ``MAX_PARTS``."""
    starts = list(accumulate((length for _, length in plan.bases), initial=0))
    parts: list[list[Copy]] = [[] for _ in plan.bases]
    left = MAX_PARTS
    for new, old, length in spans:
        number = bisect_right(starts, old) - 1
        while length:
            size = min(length, starts[number + 1] - old)
            parts[number].append(Copy(new, old - starts[number], size))
            new, old, length = new + size, old + size, length - size
            number += 1
            left -= 1
            if left < 0:
                raise PayloadError(f"delta payload: more than {MAX_PARTS} parts of bases")
    return parts
