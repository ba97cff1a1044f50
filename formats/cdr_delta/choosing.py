"""From copies that were found in the old content to those that are worth writing, and their bases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cdr_plugin.model.blobs import BlobId, BlobType

from .payload import MAX_BASES, MAX_COPIES, Copy, Plan
from .window import OldBlob, View

MIN_COPY_BYTES = 32
"""A copy costs 3 to 8 bytes, and divides literals that might compress better in one piece."""

MIN_BASE_BYTES = 96
"""To be copied from one base: its ID alone is 32."""


@dataclass(frozen=True, slots=True)
class _Part:
    """``length`` bytes from offset ``into`` of an old blob to ``new``."""

    new: int
    blob: OldBlob
    into: int
    length: int


def plan_copies(
    view: View, found: Iterable[tuple[int, int, int]], type_: BlobType, size: int, offset: int, with_context: bool
) -> Plan | None:
    """The plan for a blob of ``size`` bytes; None where nothing is worth it. ``found``: copies as in ``COPY_RECORD``;
    ``with_context``: old bytes are at hand to compress literals with."""
    parts = list(_split(view, found))[:MAX_COPIES]
    opposite = list(_opposite(view, parts, size, offset)) if with_context else []
    chosen = _choose_bases(parts, opposite)
    if not chosen:
        return None
    starts: dict[BlobId, int] = {}
    end = 0
    for blob in chosen:
        starts[blob.id] = end
        end += blob.length
    spans = (Copy(part.new, starts[part.blob.id] + part.into, part.length) for part in parts if part.blob.id in starts)
    copies = [copy for copy in _merged(spans) if copy.length >= MIN_COPY_BYTES]
    if not copies and not with_context:
        return None
    return Plan(type_, [(blob.id, blob.length) for blob in chosen], copies, with_context)


def _split(view: View, copies: Iterable[tuple[int, int, int]]) -> Iterator[_Part]:
    """At the borders of old blobs."""
    for new, length, old in copies:
        for blob in view.overlapping(old, old + length):
            start, end = max(old, blob.start), min(old + length, blob.end)
            yield _Part(new + start - old, blob, start - blob.start, end - start)


def _opposite(view: View, parts: Sequence[_Part], size: int, offset: int) -> Iterator[OldBlob]:
    """Old blobs that stand opposite to what is not copied: their bytes are worth having for literals."""
    at, old = 0, offset
    for part in parts:
        if part.new - at >= MIN_COPY_BYTES:
            yield from view.overlapping(old, old + part.new - at)
        at, old = part.new + part.length, part.blob.start + part.into + part.length
    if size - at >= MIN_COPY_BYTES:
        yield from view.overlapping(old, old + size - at)


def _choose_bases(parts: Sequence[_Part], opposite: Sequence[OldBlob]) -> list[OldBlob]:
    """At most ``MAX_BASES``, each ID once, in the order of the old content."""
    used: Counter[BlobId] = Counter()
    blobs: dict[BlobId, OldBlob] = {}
    for part in parts:
        used[part.blob.id] += part.length
        blobs.setdefault(part.blob.id, part.blob)
    for blob in opposite:
        used[blob.id] += MIN_BASE_BYTES
        blobs.setdefault(blob.id, blob)
    best = [blobs[id_] for id_, size in used.most_common(MAX_BASES) if size >= MIN_BASE_BYTES]
    return sorted(best, key=lambda blob: blob.start)


def _merged(copies: Iterable[Copy]) -> Iterator[Copy]:
    last: Copy | None = None
    for copy in copies:
        if last is not None and (copy.new - last.new, copy.old - last.old) == (last.length, last.length):
            last = last._replace(length=last.length + copy.length)
            continue
        if last is not None:
            yield last
        last = copy
    if last is not None:
        yield last
