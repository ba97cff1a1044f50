"""Blobs into packs, packs into storage, stored packs into index files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from cdr_plugin.model.blobs import BlobType
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.files import SealedFiles
from cdr_restic.index import FULL_INDEX_BLOBS, IndexedPack, encode_index
from cdr_restic.journal import Journal
from cdr_restic.packs import PackBuilder
from cdr_restic.storage import FileKind
from cdr_restic.uploads import MAX_WAITING, PackUploads, StoredPack


class PackNumbers(Protocol):
    """Who numbers packs while they have no name yet."""

    def new_pack(self) -> int: ...

    def name_pack(self, number: int, name: str) -> None: ...


class PackWriter:
    """Fills packs, one for each type of blob, and stores them in the background.

    The first failure ends it: every later call raises that error. Stored packs are listed in an
    index file as soon as there are blobs enough for one; the rest is ``save_index``'s.
    """

    def __init__(
        self,
        files: SealedFiles,
        key: KeyMaterial,
        journal: Journal,
        numbers: PackNumbers,
        pack_size: int,
        check: Callable[[], None],
        confirm: Callable[[], None],
        waiting: int = MAX_WAITING,
    ) -> None:
        """``check`` raises when nothing more may be written. ``confirm`` does so too, after asking the
        storage, before packs are listed: who removed our lock may have pruned what no index lists.
        At most ``waiting`` packs wait to be stored."""
        self._files = files
        self._journal = journal
        self._numbers = numbers
        self._pack_size = pack_size
        self._confirm = confirm
        self._sealer = Sealer(key)
        self._uploads = PackUploads(files.storage, journal, check, waiting)
        # Data and trees never share a pack.
        self._open: dict[BlobType, PackBuilder] = {}
        self._unindexed: list[IndexedPack] = []
        self._unindexed_blobs = 0
        self.index_files: set[str] = set()

    def pack(self, type_: BlobType) -> PackBuilder:
        """The pack that takes the next blob of this type; call ``added`` when it did."""
        pack = self._open.get(type_)
        if pack is None:
            number = self._numbers.new_pack()
            pack = self._open[type_] = PackBuilder(self._uploads.buffer(), self._pack_size, self._sealer, number)
        return pack

    def added(self, type_: BlobType) -> None:
        if self._open[type_].is_full:
            self._finish(type_)
            if self._unindexed_blobs >= FULL_INDEX_BLOBS:
                self.save_index()

    def raise_failure(self) -> None:
        self._uploads.raise_failure()

    def store_all(self) -> None:
        """Returns when every pack is durable, the last ones as full as they are."""
        for type_ in tuple(self._open):
            self._finish(type_)
        self._take(self._uploads.drain())

    def save_index(self) -> None:
        """An index file of all packs that are stored and in none yet; nothing when there are none."""
        if not self._unindexed:
            return
        try:
            self._confirm()
            self.index_files.add(self._files.save(FileKind.INDEX, encode_index(self._unindexed)))
        except BaseException as error:
            # Whether the file is in place is unknown: trying again could index packs twice.
            self._uploads.fail(error)
            raise
        self._unindexed = []
        self._unindexed_blobs = 0

    def take_unindexed(self) -> list[IndexedPack]:
        """The packs that are stored and in no index file yet, for the caller to list."""
        taken, self._unindexed, self._unindexed_blobs = self._unindexed, [], 0
        return taken

    def flush(self) -> None:
        """Returns when everything added is durable and indexed."""
        self.store_all()
        if self._unindexed:
            self.save_index()
            self._journal.note_indexed()

    def close(self) -> None:
        """Stop the threads, after the writes under way. Nothing is flushed."""
        self._uploads.close()

    def _finish(self, type_: BlobType) -> None:
        self._take(self._uploads.submit(self._open.pop(type_)))

    def _take(self, stored: Iterable[StoredPack]) -> None:
        for pack in stored:
            self._numbers.name_pack(pack.number, pack.name)
            self._unindexed.append(IndexedPack(pack.name, pack.entries))
            self._unindexed_blobs += len(pack.entries)
