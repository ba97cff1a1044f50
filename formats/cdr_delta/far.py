"""What moved farther than the window reaches: which old blobs may hold it, by a sample of all their blocks."""

from __future__ import annotations

import struct
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from cdr_plugin.contracts import OldContent
from cdr_plugin.kernel import COPY_RECORD, BlockIndex, BlockSample
from cdr_plugin.model.blobs import Buffer

from .memory import Memories
from .payload import MAX_BASES
from .window import OldBlob, View, Window

Found = tuple[int, int, int]
"""As ``COPY_RECORD``: offset in the new blob, length, offset in the old content."""

SAMPLED_BLOCKS = 1 << 18
"""6 MB. Of 1 GB of data one block in 4 KiB or more, of 100 GB one in about 400 KiB: what moved is found where it
is some times as long."""

LEAST_GAP_BYTES = 4096
"""A page, the least that a file system moves. What is shorter was most likely changed where it is."""

_APART = 1 << 32
"""Longer than any blob."""


class Far:
    """For any number of threads. Nothing is read before the first blob of which the window does not hold enough;
    then the signatures of all old blobs, once."""

    def __init__(self, old: OldContent, memories: Memories, window: Window) -> None:
        self._old = old
        self._memories = memories
        self._window = window
        self._making = threading.Lock()
        self._sample: BlockSample | None = None

    def search(self, view: View, blob: Buffer, found: Sequence[Found]) -> tuple[View, Sequence[Found]]:
        """Look for what lies between the copies that were ``found`` in the view; returns more of them, and a
        view in which they all are."""
        gaps = [] if view.is_whole else list(_gaps(found, len(blob)))
        far = self._fetch(self._choose(view, blob, gaps), view.end + _APART) if gaps else []
        if not far:
            return view, found
        index = BlockIndex(self._memories.signer, [old.row for old in far])
        data = memoryview(blob)
        more = [
            (new + low, length, old)
            for low, high in gaps
            for new, length, old in COPY_RECORD.iter_unpack(index.match(data[low:high], 0))
        ]
        return view.with_more(far), sorted([*found, *more])

    def _choose(self, view: View, blob: Buffer, gaps: Iterable[tuple[int, int]]) -> list[int]:
        """Positions of those outside the view that have most of the blob, ascending."""
        sample = self._made()
        found = b"".join(sample.find(blob, low, high) for low, high in gaps)
        times = Counter(position for (position,) in struct.iter_unpack("<I", found))
        outside = Counter({at: count for at, count in times.items() if at not in view.positions})
        return sorted(position for position, _ in outside.most_common(MAX_BASES))

    def _fetch(self, positions: Iterable[int], start: int) -> list[OldBlob]:
        """The blobs, placed from ``start`` on: next to each other only where they are so in the old content."""
        blobs: list[OldBlob] = []
        for position in positions:
            if blobs:
                start = blobs[-1].end + (0 if position == blobs[-1].position + 1 else _APART)
            blob = self._window.read(position, start)
            if blob is not None:
                blobs.append(blob)
        return blobs

    def _made(self) -> BlockSample:
        with self._making:
            if self._sample is None:
                self._sample = BlockSample(self._memories.signer, self._rows(), SAMPLED_BLOCKS)
            return self._sample

    def _rows(self) -> Iterator[tuple[int, int, bytes]]:
        for position in range(self._old.count):
            base = self._old.base(position)
            phase, values = self._memories.parse(base) if base is not None else (0, b"")
            yield (base.length if base is not None else 0, phase, values)


def _gaps(found: Iterable[Found], length: int) -> Iterator[tuple[int, int]]:
    """Where nothing was found, if that is long enough to look elsewhere."""
    at = 0
    for new, size, _ in (*found, (length, 0, 0)):
        if new - at >= LEAST_GAP_BYTES:
            yield at, new
        at = new + size
