"""Reads blobs back: neighbours in a pack together, decrypted and verified on several cores."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

from cdr_plugin.contracts import RepositoryReader, StoredSize
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_restic.crypto import OVERHEAD, KeyMaterial
from cdr_restic.files import type_of
from cdr_restic.index import Location, MemoryIndex
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


class Run(NamedTuple):
    """Blobs of one pack that one request reads; ``cost`` bounds the memory that they take."""

    pack: int
    begin: int
    end: int
    cost: int
    blobs: list[tuple[bytes, Location]]


def plan_runs(located: Iterable[tuple[bytes, Location]]) -> Iterator[Run]:
    """Runs of blobs that come sorted by pack and offset. Overlaps, which a hostile index may
    claim, are read twice at most."""
    run: Run | None = None
    for id_, place in located:
        behind = place.offset + place.length
        cost = max(place.length, place.plain_length)
        if (
            run is not None
            and run.pack == place.pack
            and 0 <= place.offset - run.end <= MAX_GAP_BYTES
            and run.cost + cost <= _RUN_BYTES
        ):
            run.blobs.append((id_, place))
            run = Run(run.pack, run.begin, behind, run.cost + cost + place.offset - run.end, run.blobs)
            continue
        if run is not None:
            yield run
        run = Run(place.pack, place.offset, behind, cost, [(id_, place)])
    if run is not None:
        yield run


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
        place = self._find(type_, id_)
        behind = place.offset + place.length
        [(_, data)] = self._read_run(type_, Run(place.pack, place.offset, behind, 0, [(id_, place)]))
        return data

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        located = self._index.locate(type_, b"".join(ids))
        for id_ in located.missing:
            raise self._not_found(type_, id_)
        runs = plan_runs(located.places())
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

    def _find(self, type_: BlobType, id_: bytes) -> Location:
        place = self._index.find(type_, id_)
        if place is None:
            raise self._not_found(type_, id_)
        return place

    def _not_found(self, type_: BlobType, id_: bytes) -> NotFoundError:
        return NotFoundError(
            f"{type_.name.lower()} blob {id_.hex()[:10]} is not in repository {self._storage.location}"
        )

    def _read_run(self, type_: BlobType, run: Run) -> list[tuple[BlobId, bytes]]:
        pack = self._index.pack_name(run.pack)
        if not pack:  # still being written
            raise self._not_found(type_, run.blobs[0][0])
        part = memoryview(self._storage.load_part(FileKind.DATA, pack, run.begin, run.end - run.begin))
        opener = self._opener()
        return [(BlobId(id_), self._open(opener, type_, id_, place, part, run)) for id_, place in run.blobs]

    def _open(
        self, opener: BlobOpener, type_: BlobType, id_: bytes, place: Location, part: memoryview, run: Run
    ) -> bytes:
        begin = place.offset - run.begin
        sealed = part[begin : begin + place.length]
        try:
            if len(sealed) != place.length:
                raise FormatError("the pack ends before it")
            return opener.open(type_, id_, sealed, place.plain)
        except IntegrityError as error:
            pack = self._storage.describe(FileKind.DATA, self._index.pack_name(run.pack))
            raise type_of(error)(
                f"{type_.name.lower()} blob {id_.hex()[:10]} in pack {pack} is damaged: {error}; "
                "see 'restic check --read-data'"
            ) from None

    def _opener(self) -> BlobOpener:
        opener: BlobOpener | None = getattr(self._local, "opener", None)
        if opener is None:
            opener = self._local.opener = BlobOpener(self._key)
        return opener
