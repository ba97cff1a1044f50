"""A writing pass: blobs into packs, packs into indexes, then the snapshot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdr_plugin.contracts import RepositoryPass, StoredVersion
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType, Payload
from cdr_plugin.model.versions import Snapshot, encode_snapshot
from cdr_restic.crypto import KeyMaterial
from cdr_restic.encoding import BlobEncoder
from cdr_restic.files import SealedFiles
from cdr_restic.index import MemoryIndex
from cdr_restic.journal import Journal
from cdr_restic.locks import RepositoryLock
from cdr_restic.opening import MAX_BLOB_BYTES
from cdr_restic.packing import PackWriter
from cdr_restic.reading import ResticReader
from cdr_restic.storage import FileKind, is_file_name


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
        self._encoder = encoder
        self._versions = list(versions)
        self._reader = ResticReader(files.storage, key, index)
        self._packs = PackWriter(files, key, journal, index, pack_size, lock.check, lock.confirm)

    @property
    def index_files(self) -> set[str]:
        """Names of those written so far."""
        return self._packs.index_files

    def has(self, type_: BlobType, id_: BlobId) -> bool:
        return self._index.has(type_, id_)

    def add(self, type_: BlobType, id_: BlobId, data: bytes, payload: Payload | None = None) -> bool:
        if self._index.has(type_, id_):
            return False
        self._packs.raise_failure()
        if len(id_) != 32 or len(data) > MAX_BLOB_BYTES[type_]:
            raise FormatError(
                f"{type_.name.lower()} blob {id_.hex()[:10]} of {len(data)} bytes cannot be stored"
            )
        stored, plain = self._encoder.encode(type_, data, payload)
        pack = self._packs.pack(type_)
        self._index.add(pack.number, pack.append(type_, id_, stored, plain))
        self._packs.added(type_)
        return True

    def flush(self) -> None:
        self._packs.flush()
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
        self._packs.close()
        self._reader.close()
