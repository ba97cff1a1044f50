"""Copies blobs from old packs into new ones: read, verified in threads, and sealed bytes kept as they are."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from cdr_plugin.errors import FormatError, IntegrityError
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_plugin.reporter import Reporter
from cdr_restic.crypto import OVERHEAD, KeyMaterial
from cdr_restic.encoding import BlobEncoder
from cdr_restic.files import SealedFiles, type_of
from cdr_restic.opening import BlobOpener
from cdr_restic.packing import PackWriter
from cdr_restic.packs import PackEntry
from cdr_restic.reading import MAX_GAP_BYTES
from cdr_restic.storage import FileKind

_RUN_BYTES = 1 * 1024 * 1024
"""Of plaintext or pack, whichever is more, per request; a bigger blob is a run of its own."""
_UNDER_WAY_BYTES = 8 * 1024 * 1024
"""With runs of 4 MiB and 64 MiB under way, pruning 2 GB of big files held 60 MB more and took as long."""
_THREADS = min(4, os.cpu_count() or 1)
"""Threads, not processes: opening seals holds the GIL, but at 2 GB/s; hashing and decompressing, at a
quarter of that, release it."""


class _Run(NamedTuple):
    """Blobs of one pack that one request reads."""

    pack: str
    begin: int
    end: int
    cost: int
    entries: list[PackEntry]


class _Verified(NamedTuple):
    """A blob ready for its new pack: sealed as it was, or encoded anew and to be sealed."""

    entry: PackEntry
    body: Buffer
    plain: int
    is_sealed: bool


class Repacker:
    """Copies blobs into the packs of ``packs``."""

    def __init__(
        self, files: SealedFiles, key: KeyMaterial, compression: str, packs: PackWriter, reporter: Reporter
    ) -> None:
        self._files = files
        self._key = key
        self._compression = compression
        self._packs = packs
        self._reporter = reporter
        self._local = threading.local()

    def copy(self, wanted: Iterable[tuple[str, list[PackEntry]]]) -> int:
        """Copy these blobs (by pack, ascending by offset); how many. What is uncompressed is compressed where
        the repository would do so now.

        IntegrityError that names pack and blob when one does not verify; RemoteError. Blobs copied until then
        are in new packs or lost, and all are where they were.
        """
        copied = 0
        for batch in self._read(wanted):
            for entry, body, plain, is_sealed in batch:
                pack = self._packs.pack(entry.type)
                append = pack.append_sealed if is_sealed else pack.append
                append(entry.type, entry.id, body, plain)
                self._packs.added(entry.type)
            copied += len(batch)
            self._reporter.progress(blobs_repacked=copied)
        return copied

    def _read(self, wanted: Iterable[tuple[str, list[PackEntry]]]) -> Iterator[list[_Verified]]:
        """In the order of ``wanted``; a bounded number of bytes is under way."""
        waiting: deque[tuple[int, Future[list[_Verified]]]] = deque()
        under_way = 0
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="restic-repack") as executor:
            try:
                for run in (run for pack, entries in wanted for run in _runs(pack, entries)):
                    while waiting and under_way + run.cost > _UNDER_WAY_BYTES:
                        cost, future = waiting.popleft()
                        yield future.result()
                        under_way -= cost
                    waiting.append((run.cost, executor.submit(self._read_run, run)))
                    under_way += run.cost
                while waiting:
                    yield waiting.popleft()[1].result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _read_run(self, run: _Run) -> list[_Verified]:
        part = memoryview(self._files.storage.load_part(FileKind.DATA, run.pack, run.begin, run.end - run.begin))
        opener, encoder = self._tools()
        found = []
        for entry in run.entries:
            sealed = part[entry.offset - run.begin : entry.offset - run.begin + entry.length]
            data = self._open(opener, run.pack, entry, sealed)
            if self._must_encode(entry):
                stored, plain = encoder.encode(entry.type, data, None)
                found.append(_Verified(entry, stored, plain, False))
            else:
                found.append(_Verified(entry, sealed, entry.plain, True))
        return found

    def _open(self, opener: BlobOpener, pack: str, entry: PackEntry, sealed: memoryview) -> bytes:
        try:
            if len(sealed) != entry.length:
                raise FormatError("the pack ends before it")
            return opener.open(entry.type, entry.id, sealed, entry.plain)
        except IntegrityError as error:
            name = self._files.storage.describe(FileKind.DATA, pack)
            raise type_of(error)(
                f"{entry.type.name.lower()} blob {entry.id.hex()[:10]} in pack {name} is damaged: {error}; "
                f"no needed blob was removed; see 'cdr check --read-data', then 'cdr repair packs {pack[:10]}'"
            ) from None

    def _must_encode(self, entry: PackEntry) -> bool:
        if self._files.version < 2 or entry.plain or entry.length == OVERHEAD:
            return False
        return entry.type is BlobType.TREE or self._compression != "off"

    def _tools(self) -> tuple[BlobOpener, BlobEncoder]:
        """Those of this thread."""
        tools: tuple[BlobOpener, BlobEncoder] | None = getattr(self._local, "tools", None)
        if tools is None:
            encoder = BlobEncoder(self._files.version, self._compression)
            tools = self._local.tools = BlobOpener(self._key), encoder
        return tools


def _runs(pack: str, entries: list[PackEntry]) -> Iterator[_Run]:
    """Requests for these blobs, which ascend by offset: gaps of at most 64 KiB are read along."""
    chosen: list[PackEntry] = []
    begin = end = cost = 0
    for entry in entries:
        gap = entry.offset - end
        more = max(entry.length, entry.plain)
        if chosen and (gap > MAX_GAP_BYTES or cost + gap + more > _RUN_BYTES):
            yield _Run(pack, begin, end, cost, chosen)
            chosen = []
        if not chosen:
            begin, end, cost, gap = entry.offset, entry.offset, 0, 0
        chosen.append(entry)
        cost += max(gap, 0) + more
        end = max(end, entry.offset + entry.length)
    if chosen:
        yield _Run(pack, begin, end, cost, chosen)
