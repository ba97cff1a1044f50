"""A writing pass: blobs into packs, packs into indexes, then the snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdr_plugin.contracts import RepositoryPass, StoredVersion
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType, Payload
from cdr_plugin.model.versions import Snapshot, encode_snapshot
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.encoding import BlobEncoder
from cdr_restic.files import SealedFiles
from cdr_restic.index import FULL_INDEX_BLOBS, IndexedPack, MemoryIndex, encode_index
from cdr_restic.journal import Journal
from cdr_restic.locks import RepositoryLock
from cdr_restic.opening import MAX_BLOB_BYTES
from cdr_restic.packs import PackBuilder
from cdr_restic.reading import ResticReader
from cdr_restic.storage import FileKind, is_file_name
from cdr_restic.uploads import PackUploads, StoredPack


class ResticPass(RepositoryPass):
    """Made by ``ResticRepository.writing``, which holds lock and journal while it lasts.

    After any failure every later call raises that error again: what was added may or may not be
    stored, and the next pass finds out from the repository.
    """

    def __init__(
        self,
        files: SealedFiles,
        key: KeyMaterial,
        index: MemoryIndex,
        *,
        lock: RepositoryLock,
        journal: Journal,
        encoder: BlobEncoder,
        pack_size: int,
        versions: Iterable[StoredVersion],
    ) -> None:
        self._files = files
        self._index = index
        self._lock = lock
        self._journal = journal
        self._encoder = encoder
        self._pack_size = pack_size
        self._versions = list(versions)
        self._sealer = Sealer(key)
        self._reader = ResticReader(files.storage, key, index)
        self._uploads = PackUploads(files.storage, journal, lock.check)
        # Data and trees never share a pack.
        self._open: dict[BlobType, PackBuilder] = {}
        self._unindexed: list[IndexedPack] = []
        self._unindexed_blobs = 0
        self.index_files: set[str] = set()

    def has(self, type_: BlobType, id_: BlobId) -> bool:
        return self._index.has(type_, id_)

    def add(self, type_: BlobType, id_: BlobId, data: bytes, payload: Payload | None = None) -> bool:
        if self._index.has(type_, id_):
            return False
        self._uploads.raise_failure()
        if len(id_) != 32 or len(data) > MAX_BLOB_BYTES[type_]:
            raise FormatError(
                f"{type_.name.lower()} blob {id_.hex()[:10]} of {len(data)} bytes cannot be stored"
            )
        stored, plain = self._encoder.encode(type_, data, payload)
        pack = self._open.get(type_) or self._new_pack(type_)
        self._index.add(pack.number, pack.append(type_, id_, stored, plain))
        if pack.is_full:
            self._finish(type_)
            if self._unindexed_blobs >= FULL_INDEX_BLOBS:
                self._save_index()
        return True

    def flush(self) -> None:
        for type_ in tuple(self._open):
            self._finish(type_)
        self._take(self._uploads.drain())
        if self._unindexed:
            self._save_index()
            self._journal.note_indexed()
        self._lock.confirm()

    def add_version(self, snapshot: Snapshot) -> str:
        self.flush()
        name = self._files.save(FileKind.SNAPSHOTS, encode_snapshot(snapshot))
        self._versions.append(StoredVersion(name, snapshot))
        return name

    def remove_version(self, id_: str) -> None:
        if not is_file_name(id_):
            raise UserError(f"{id_[:80]!r} is not the full ID of a snapshot")
        self._lock.confirm()
        self._files.storage.remove(FileKind.SNAPSHOTS, id_)
        self._versions = [version for version in self._versions if version.id != id_]

    @property
    def versions(self) -> Sequence[StoredVersion]:
        return tuple(self._versions)

    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        return self._reader.read(type_, id_)

    def close(self) -> None:
        """Stop the threads, after the writes under way. Nothing is flushed."""
        self._uploads.close()
        self._reader.close()

    def _new_pack(self, type_: BlobType) -> PackBuilder:
        pack = PackBuilder(self._uploads.buffer(), self._pack_size, self._sealer, self._index.new_pack())
        self._open[type_] = pack
        return pack

    def _finish(self, type_: BlobType) -> None:
        self._take(self._uploads.submit(self._open.pop(type_)))

    def _take(self, stored: Iterable[StoredPack]) -> None:
        for pack in stored:
            self._index.name_pack(pack.number, pack.name)
            self._unindexed.append(IndexedPack(pack.name, pack.entries))
            self._unindexed_blobs += len(pack.entries)

    def _save_index(self) -> None:
        try:
            self._lock.check()
            self.index_files.add(self._files.save(FileKind.INDEX, encode_index(self._unindexed)))
        except BaseException as error:
            # Whether the file is in place is unknown: trying again could index packs twice.
            self._uploads.fail(error)
            raise
        self._unindexed = []
        self._unindexed_blobs = 0
