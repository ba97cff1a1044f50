"""Reads blobs back: neighbours in a pack together, decrypted and verified on several cores."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeAlias

from cdr_plugin.contracts import RepositoryReader, StoredSize
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.kernel import BLOB_RECORD
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_restic.crypto import OVERHEAD, KeyMaterial
from cdr_restic.files import type_of
from cdr_restic.index import MemoryIndex
from cdr_restic.opening import BlobOpener
from cdr_restic.pack_lookup import blobs_of_pack
from cdr_restic.storage import FileKind, Storage

MAX_GAP_BYTES = 64 * 1024
"""Unwanted bytes that are read along rather than asking the storage once more."""
_RUN_BYTES = 4 * 1024 * 1024
"""Of plaintext or pack, whichever is more, per request; a bigger blob is a run of its own."""
_UNDER_WAY_BYTES = 24 * 1024 * 1024
"""Of runs that are being read or wait to be taken: enough for two threads, and 64 MiB were no faster."""
_THREADS = min(4, os.cpu_count() or 1)


_Row: TypeAlias = tuple[int, bytes, int, int, int, int]
"""A ``BlobRow`` as it comes out of a record: naming the fields of each cost a tenth of reading small blobs."""


class Run(NamedTuple):
    """Blobs of one pack that one request reads; ``cost`` bounds the memory that they take."""

    pack: int
    begin: int
    end: int
    cost: int
    blobs: list[_Row]


def plan_runs(rows: Iterable[_Row]) -> Iterator[Run]:
    """Runs of blobs that come sorted by pack and offset. Overlaps, which a hostile index may
    claim, are read twice at most."""
    blobs: list[_Row] = []
    current = begin = end = cost = 0
    for row in rows:
        _, _, pack, offset, length, plain = row
        own = max(length, plain or length - OVERHEAD)
        if blobs and pack == current and 0 <= offset - end <= MAX_GAP_BYTES and cost + own <= _RUN_BYTES:
            cost += own + offset - end
        else:
            if blobs:
                yield Run(current, begin, end, cost, blobs)
            blobs, current, begin, cost = [], pack, offset, own
        blobs.append(row)
        end = offset + length
    if blobs:
        yield Run(current, begin, end, cost, blobs)


class ResticReader(RepositoryReader):
    """Reads the blobs of an index. Any number of threads may use it."""

    def __init__(self, storage: Storage, key: KeyMaterial, index: MemoryIndex) -> None:
        self._storage = storage
        self._key = key
        self._index = index
        self._local = threading.local()
        self._mutex = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        place = self._index.find(type_, id_)
        if place is None:
            raise self._not_found(type_, id_)
        [run] = plan_runs([(type_, id_, *place)])
        [(_, data)] = self._read_run(type_, run)
        return data

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        located = self._index.locate(type_, b"".join(ids))
        for id_ in located.missing:
            raise self._not_found(type_, id_)
        runs = plan_runs(BLOB_RECORD.iter_unpack(located.records))
        waiting: deque[tuple[int, Future[list[tuple[BlobId, bytes]]]]] = deque()
        under_way = 0
        try:
            for run in runs:
                while waiting and under_way + run.cost > _UNDER_WAY_BYTES:
                    cost, future = waiting.popleft()
                    yield from future.result()
                    under_way -= cost
                waiting.append((run.cost, self._submit(type_, run)))
                under_way += run.cost
            while waiting:
                yield from waiting.popleft()[1].result()
        finally:
            for _, future in waiting:
                future.cancel()

    def sizes(self, type_: BlobType, ids: Sequence[BlobId]) -> Sequence[int | None]:
        return [self._size(type_, id_) for id_ in ids]

    def _size(self, type_: BlobType, id_: BlobId) -> int | None:
        place = self._index.find(type_, id_)
        return None if place is None else place.plain_length

    def stored_sizes(self, type_: BlobType, ids: Sequence[BlobId]) -> Sequence[StoredSize | None]:
        return [
            None if place is None else StoredSize(place.length, place.plain_length + OVERHEAD, place.plain > 0)
            for place in (self._index.find(type_, id_) for id_ in ids)
        ]

    def blobs_of_pack(self, prefix: str) -> Sequence[tuple[BlobType, BlobId]]:
        return blobs_of_pack(self._storage, self._key, self._index, prefix)

    def pack_of(self, type_: BlobType, id_: BlobId) -> str | None:
        place = self._index.find(type_, id_)
        return None if place is None else self._index.pack_name(place.pack) or None

    def close(self) -> None:
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def _submit(self, type_: BlobType, run: Run) -> Future[list[tuple[BlobId, bytes]]]:
        with self._mutex:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="restic-read")
            return self._executor.submit(self._read_run, type_, run)

    def _not_found(self, type_: BlobType, id_: bytes) -> NotFoundError:
        return NotFoundError(
            f"{type_.name.lower()} blob {id_.hex()[:10]} is not in repository {self._storage.location}"
        )

    def _read_run(self, type_: BlobType, run: Run) -> list[tuple[BlobId, bytes]]:
        pack = self._index.pack_name(run.pack)
        if not pack:  # still being written
            raise self._not_found(type_, run.blobs[0][1])
        part = memoryview(self._storage.load_part(FileKind.DATA, pack, run.begin, run.end - run.begin))
        open_, begin = self._opener().open, run.begin
        opened: list[tuple[BlobId, bytes]] = []
        for _, id_, _, offset, length, plain in run.blobs:
            sealed = part[offset - begin : offset - begin + length]
            try:
                if len(sealed) != length:
                    raise FormatError("the pack ends before it")
                opened.append((BlobId(id_), open_(type_, id_, sealed, plain)))
            except IntegrityError as error:
                raise self._damaged(type_, id_, pack, error) from None
        return opened

    def _damaged(self, type_: BlobType, id_: bytes, pack: str, error: IntegrityError) -> IntegrityError:
        return type_of(error)(
            f"{type_.name.lower()} blob {id_.hex()[:10]} in pack {self._storage.describe(FileKind.DATA, pack)} "
            f"is damaged: {error}; see 'restic check --read-data'"
        )

    def _opener(self) -> BlobOpener:
        opener: BlobOpener | None = getattr(self._local, "opener", None)
        if opener is None:
            opener = self._local.opener = BlobOpener(self._key)
        return opener
