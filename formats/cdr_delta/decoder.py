"""Payload ``delta/1`` to blob, for payloads from anybody."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

from cdr_plugin.contracts import Decoder, FetchBlob
from cdr_plugin.errors import PayloadError
from cdr_plugin.model.blobs import BlobId, Buffer

from .frames import LiteralReader
from .payload import Plan, read_bases, read_plan, split_by_base


class DeltaDecoder(Decoder):
    """Fetches each base once and holds one at a time.

    Allocates ``length`` bytes, and besides one base, at most 8 MiB of context, as much for zstd's window, 4 MiB of
    literals and some 30 MB for lists of copies.
    """

    def decode(self, data: Buffer, length: int, fetch: FetchBlob) -> bytes:
        """The blob; PayloadError. An empty blob is never encoded, so length 0 is refused."""
        if length < 1:
            raise PayloadError(f"delta payload of {len(data)} bytes for an empty blob")
        plan, at = read_plan(data, length)
        blob = BytesIO()
        # Makes room for all at once; ``getvalue`` then gives it without another copy.
        blob.seek(length - 1)
        blob.write(b"\0")
        context = _copy_from_bases(plan, length, fetch, blob)
        _fill_gaps(plan, length, LiteralReader(data, at, length - _copied(plan), context), blob)
        return blob.getvalue()

    def bases(self, data: Buffer) -> Sequence[BlobId]:
        return read_bases(data)


def _copied(plan: Plan) -> int:
    return sum(copy.length for copy in plan.copies)


def _copy_from_bases(plan: Plan, length: int, fetch: FetchBlob, blob: BytesIO) -> bytes:
    """Write all copies; the context of the literals."""
    spans = plan.contexts(length)
    context = bytearray(sum(span.length for span in spans))
    copies_of, contexts_of = split_by_base(plan, plan.copies), split_by_base(plan, spans)
    for (id_, size), copies, contexts in zip(plan.bases, copies_of, contexts_of, strict=True):
        base = memoryview(fetch(plan.type, id_))
        if len(base) != size:
            raise PayloadError(f"delta payload: base {id_.hex()[:10]} has {len(base)} bytes, not {size}")
        for new, old, count in copies:
            blob.seek(new)
            blob.write(base[old : old + count])
        for new, old, count in contexts:
            context[new : new + count] = base[old : old + count]
    return bytes(context)


def _fill_gaps(plan: Plan, length: int, literals: LiteralReader, blob: BytesIO) -> None:
    for at, end in plan.gaps(length):
        blob.seek(at)
        while at < end:
            at += blob.write(literals.read(end - at))
    literals.finish()
