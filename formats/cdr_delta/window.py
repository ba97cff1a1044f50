"""The part of an old content that is searched for one blob: as much as memory allows, around the same offset."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from cdr_plugin.contracts import OldContent
from cdr_plugin.kernel import BlockIndex
from cdr_plugin.model.blobs import BlobId

from .memory import Memories

WINDOW_BLOCKS = 1 << 19
"""256 MiB in blocks of 512 bytes. 4 MB of hashes, and 5 MB of tables in each of two indexes, while one is being
made: 14 MB. Of an image of 1 GB four times as much finds 3 % more."""

KEPT_DATA_BYTES = 8 * 1024 * 1024
"""Of old bytes, where the client keeps them: those opposite to the blobs at work."""

_LEAST_WEIGHT = 64
"""Of an old blob, in blocks: what Python needs for one of which hardly anything is known."""


@dataclass(frozen=True, slots=True)
class OldBlob:
    """A blob of the old content; ``start`` is its offset there."""

    position: int
    id: BlobId
    start: int
    length: int
    phase: int
    values: bytes
    has_data: bool

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def row(self) -> tuple[int, int, int, bytes]:
        """For ``BlockIndex``."""
        return self.start, self.length, self.phase, self.values

    @property
    def weight(self) -> int:
        """In blocks."""
        return max(len(self.values) // 8, _LEAST_WEIGHT)


@dataclass(frozen=True, slots=True)
class View:
    """A stretch of the old content, ascending, and the index of its blocks. Immutable."""

    blobs: Sequence[OldBlob]
    index: BlockIndex
    positions: range
    """Of the blobs in the old content, those included of which nothing is known."""
    is_last: bool
    """The old content ends with it."""
    reach: int
    """It serves for blobs that end here or before: enough of the old content lies behind."""
    starts: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "starts", [blob.start for blob in self.blobs])

    @property
    def end(self) -> int:
        return self.blobs[-1].end if self.blobs else 0

    @property
    def is_whole(self) -> bool:
        """Nothing of the old content lies outside of it."""
        return self.is_last and self.positions.start == 0

    def with_more(self, blobs: Iterable[OldBlob]) -> View:
        """The same, with blobs behind its end that the index does not know."""
        return replace(self, blobs=(*self.blobs, *blobs))

    def overlapping(self, start: int, end: int) -> Iterator[OldBlob]:
        """The blobs of which bytes lie from ``start`` to ``end``."""
        for number in range(max(bisect_right(self.starts, start) - 1, 0), len(self.blobs)):
            blob = self.blobs[number]
            if blob.start >= end:
                return
            if blob.end > start:
                yield blob


class Window:
    """Reads an old content once, in ascending order, as blobs farther and farther on are asked for.

    For any number of threads. What lies more than half a window behind is forgotten when room is needed: a
    blob at a much smaller offset than others before is matched with what is there.
    """

    def __init__(self, old: OldContent, memories: Memories, blocks: int = WINDOW_BLOCKS) -> None:
        self._old = old
        self._memories = memories
        self._blocks = blocks
        self._making = threading.Lock()
        self._blobs: deque[OldBlob] = deque()
        self._weight = 0
        self._first = 0
        self._next = 0
        self._end = 0
        self._view: View | None = None
        self._data = _Kept(KEPT_DATA_BYTES)

    def view(self, end: int) -> View:
        """What there is to search for a blob that ends ``end`` bytes into the new content."""
        view = self._view
        if view is None or not (view.is_last or end <= view.reach):
            with self._making:
                view = self._view
                if view is None or not (view.is_last or end <= view.reach):
                    view = self._view = self._advance(end)
        return view

    def data(self, blob: OldBlob) -> bytes | None:
        """The bytes of an old blob, where they are kept."""
        data = self._read_data(blob.position) if blob.has_data else None
        return data if data is not None and len(data) == blob.length else None

    def _read_data(self, position: int) -> bytes | None:
        data = self._data.get(position)
        if data is None and (data := self._old.data(position)) is not None:
            self._data.put(position, data)
        return data

    def _advance(self, end: int) -> View:
        """Go on until half a window lies behind ``end``, forgetting what there is no room for; then as long as there
        is room. By weight, not by bytes: a window full of tiny blobs might else have forgotten what is opposite."""
        ahead = sum(blob.weight for blob in self._blobs if blob.end > end)
        while self._next < self._old.count and ahead < self._blocks // 2:
            if (blob := self._read_next()) is not None and blob.end > end:
                ahead += blob.weight
            self._forget()
        while self._next < self._old.count and self._weight < self._blocks:
            self._read_next()
        blobs = tuple(self._blobs)
        index = BlockIndex(self._memories.signer, [blob.row for blob in blobs])
        positions = range(self._first, self._next)
        return View(blobs, index, positions, self._next == self._old.count, self._reach())

    def _forget(self) -> None:
        while self._weight > self._blocks and len(self._blobs) > 1:
            forgotten = self._blobs.popleft()
            self._weight -= forgotten.weight
            self._first = forgotten.position + 1

    def _reach(self) -> int:
        """Where a quarter of a window lies behind."""
        behind = 0
        for blob in reversed(self._blobs):
            behind += blob.weight
            if behind >= self._blocks // 4:
                return blob.start
        return 0

    def _read_next(self) -> OldBlob | None:
        blob = self.read(self._next, self._end)
        self._next += 1
        if blob is None:
            return None
        self._blobs.append(blob)
        self._weight += blob.weight
        self._end = blob.end
        return blob

    def read(self, position: int, start: int) -> OldBlob | None:
        """An old blob, placed at ``start``; None where nothing is known of it."""
        base = self._old.base(position)
        if base is None or base.length < 1:
            return None
        phase, values = self._memories.read(base, start, lambda: self._read_data(position))
        return OldBlob(position, base.id, start, base.length, phase, values, base.has_data)


class _Kept:
    """The bytes last used, up to a total, or one alone if it is larger."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._total = 0
        self._items: OrderedDict[int, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, position: int) -> bytes | None:
        with self._lock:
            data = self._items.get(position)
            if data is not None:
                self._items.move_to_end(position)
            return data

    def put(self, position: int, data: bytes) -> None:
        with self._lock:
            if position in self._items:
                return
            self._items[position] = data
            self._total += len(data)
            while self._total > self._most and len(self._items) > 1:
                self._total -= len(self._items.popitem(last=False)[1])
