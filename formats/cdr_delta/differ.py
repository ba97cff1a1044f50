"""Encodes the blobs of one content against an older one."""

from __future__ import annotations

import threading

import zstandard

from cdr_plugin.contracts import Differ, OldContent
from cdr_plugin.errors import PayloadError
from cdr_plugin.kernel import COPY_RECORD
from cdr_plugin.model.blobs import Buffer

from .choosing import plan_copies
from .far import Far
from .frames import compress_literals
from .memory import Memories
from .payload import MAX_BASES, Plan, split_by_base, write_plan
from .window import View, Window

SMALL_BYTES = 64 * 1024
"""Up to here old and new bytes together are left to zstd alone, where the old ones are kept: a tree of which one
node changed takes 125 bytes in 0.1 to 1 ms."""

RIVAL_LEVEL = 3
"""Of the frame that a delta must undercut: what the method ``zstd`` makes unless told otherwise."""

_SAMPLE_TIMES = 8
_LEAST_SAMPLE_BYTES = 16 * 1024

_OF_THREAD = threading.local()
"""A compressor for each thread, not for each differ: hundreds of small files have one at a time, and a compressor
takes half a megabyte."""


class DeltaDiffer(Differ):
    """Matching takes no locks; a view of the old content is made by one thread for all.

    Memory: a window of the old content, at most ``WINDOW_BLOCKS`` blocks, 14 MB; 6 MB for a sample of the rest; 8 MiB
    of old bytes where they are kept; and what zstd takes for a blob.
    """

    def __init__(self, old: OldContent, memories: Memories, level: int) -> None:
        self._type = old.type
        self._level = level
        self._window = Window(old, memories)
        self._far = Far(old, memories, self._window)

    def encode(self, blob: Buffer, offset: int) -> Buffer | None:
        """A payload smaller than the blob's zstd frame, or None."""
        if not blob:
            return None
        view, plan = self._plan(blob, offset)
        if plan is None:
            return None
        context = self._context(view, plan, len(blob)) if plan.has_context else b""
        if context is None:
            plan, context = plan._replace(has_context=False), b""
        literals = b"".join(memoryview(blob)[at:end] for at, end in plan.gaps(len(blob)))
        payload = bytes(write_plan(plan)) + compress_literals(literals, context, self._level)
        return payload if self._undercuts(len(payload), blob) else None

    def _plan(self, blob: Buffer, offset: int) -> tuple[View, Plan | None]:
        """With the view that has its bases."""
        view = self._window.view(offset + len(blob))
        whole = self._whole_context(view, len(blob))
        if whole is not None:
            return view, whole
        near = list(COPY_RECORD.iter_unpack(view.index.match(blob, offset)))
        view, found = self._far.search(view, blob, near)
        opposite = [old.has_data for old in view.overlapping(offset, offset + len(blob))]
        with_context = bool(opposite) and all(opposite)
        return view, plan_copies(view, found, self._type, len(blob), offset, with_context)

    def _whole_context(self, view: View, length: int) -> Plan | None:
        """The plan to copy nothing, with all of the old content as context, if that is small."""
        small = view.is_last and 0 < len(view.blobs) <= MAX_BASES and view.end + length <= SMALL_BYTES
        if not small or not all(blob.has_data for blob in view.blobs):
            return None
        different = {blob.id: blob.length for blob in view.blobs}
        return Plan(self._type, list(different.items()), [], True)

    def _context(self, view: View, plan: Plan, length: int) -> bytes | None:
        """The old bytes that the plan's context consists of; None where some are not to be had."""
        spans = plan.contexts(length)
        context = bytearray(sum(span.length for span in spans))
        blobs = {blob.id: blob for blob in view.blobs} if spans else {}
        try:
            parts_of = split_by_base(plan, spans)
        except PayloadError:
            return None
        for (id_, _), parts in zip(plan.bases, parts_of, strict=True):
            data = self._window.data(blobs[id_]) if parts else b""
            if data is None:
                return None
            for new, old, count in parts:
                context[new : new + count] = data[old : old + count]
        return bytes(context)

    def _undercuts(self, size: int, blob: Buffer) -> bool:
        """Is the blob's own frame larger? Its beginning mostly tells, at a third of the cost of the stream
        that would stop in time."""
        compressor = getattr(_OF_THREAD, "compressor", None)
        if compressor is None:
            compressor = _OF_THREAD.compressor = zstandard.ZstdCompressor(level=RIVAL_LEVEL)
        sample = max(_SAMPLE_TIMES * size, _LEAST_SAMPLE_BYTES)
        if 2 * sample < len(blob) and 3 * len(compressor.compress(memoryview(blob)[:sample])) > 4 * size:
            return True
        return len(compressor.compress(blob)) > size
