"""An open restic repository."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from cdr_plugin.care import RepositoryCare
from cdr_plugin.contracts import (
    Repository,
    RepositoryOptions,
    RepositoryPass,
    RepositoryReader,
    Settings,
    StoredVersion,
)
from cdr_plugin.errors import FormatError, IntegrityError, NoRepositoryError, NotFoundError
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.versions import Snapshot, decode_snapshot
from cdr_restic.config import RepositoryConfig, load_config
from cdr_restic.crypto import KeyMaterial
from cdr_restic.encoding import BlobEncoder
from cdr_restic.files import SealedFiles
from cdr_restic.index import MemoryIndex
from cdr_restic.journal import Journal
from cdr_restic.keys import OpenedKey, find_key
from cdr_restic.locks import LockTimes, NoLock, RepositoryLock
from cdr_restic.options import check_options
from cdr_restic.reading import ResticReader
from cdr_restic.recovery import recover_packs
from cdr_restic.snapshot_cache import SnapshotCache
from cdr_restic.storage import FileKind, Storage
from cdr_restic.writing import ResticPass

_SAVE_PART = 100
"""The cache of snapshots is written again when more than one of so many is not in it: to read those costs less."""


@dataclass(frozen=True, slots=True)
class Held:
    """A repository under our exclusive lock; ``versions`` oldest first."""

    files: SealedFiles
    key: KeyMaterial
    key_id: str
    """Of the key file that opened it."""
    lock: RepositoryLock
    journal: Journal
    options: RepositoryOptions
    versions: Sequence[StoredVersion]


def open_repository(
    storage: Storage, options: RepositoryOptions, times: LockTimes | None = None
) -> ResticRepository:
    """NoRepositoryError, WrongPasswordError, and IntegrityError for a damaged key or config."""
    check_options(options)
    if not storage.exists(FileKind.CONFIG, ""):
        raise NoRepositoryError(
            f"there is no repository at {storage.location} (it has no config file); "
            "check the location, or create one there"
        )
    key = find_key(storage, options.password(), options.key_hint)
    return ResticRepository(storage, key, load_config(storage, key.master), options, times)


class ResticRepository(Repository):
    """Keeps the master key, and between passes the index and the snapshots: both consist of files
    that never change, so only new ones are read."""

    def __init__(
        self,
        storage: Storage,
        key: OpenedKey,
        config: RepositoryConfig,
        options: RepositoryOptions,
        times: LockTimes | None = None,
    ) -> None:
        self.id = config.id
        self.location = storage.location
        self.key_id = key.id
        """Of the key file that opened it, or that replaced that one since."""
        self._storage = storage
        self._key = key.master
        self._config = config
        self._options = options
        self._times = times or LockTimes()
        self._index: MemoryIndex | None = None
        self._index_files: set[str] = set()
        self._snapshots: dict[str, Snapshot] = {}
        """Oldest first, so that new ones alone have to find their places."""

    @property
    def chunker(self) -> Settings:
        return {
            "name": "rabin",
            "polynomial": f"{self._config.polynomial:x}",
            "min_size": 512 * 1024,
            "max_size": 8 * 1024 * 1024,
            "average_bits": 20,
        }

    @property
    def format_version(self) -> str:
        return f"v{self._config.version}"

    def writing(self) -> AbstractContextManager[RepositoryPass]:
        return self._writing()

    @contextmanager
    def _writing(self) -> Iterator[RepositoryPass]:
        with Journal(self._options.state, self.id) as journal:
            files = self.files()
            self._config.check_writable(self.location)
            with self._lock(files, journal) as lock:
                files = self.files()  # as it is now: waiting for the lock may have taken long
                versions = self._load_versions_cached(files)
                index = self._load_index(files)
                self._index = None  # until this pass has ended well
                recovered = recover_packs(files, self._key, index, journal, self._options.reporter, lock.confirm)
                session = self._session(files, index, lock, journal, versions)
                try:
                    yield session
                    session.flush()
                finally:
                    session.close()
                self._index = index
                self._index_files.update(recovered, session.index_files)

    def _lock(self, files: SealedFiles, journal: Journal, *, exclusive: bool = False) -> RepositoryLock:
        # The journal is ours alone, so these belong to a process that died.
        for name in journal.locks:
            self._storage.remove(FileKind.LOCKS, name)
        journal.forget_locks()
        retry_s = self._options.retry_lock_s
        return RepositoryLock(
            files, journal.note_lock, self._options.reporter, self._times, exclusive=exclusive, retry_s=retry_s
        )

    @contextmanager
    def exclusive(self, *, only_looks: bool = False, with_versions: bool = True) -> Iterator[Held]:
        """The repository under its exclusive lock, for care. What was kept from earlier passes is
        forgotten: it may not be true any more. What ``only_looks`` needs no lock if the user wants
        none. Without ``with_versions`` damaged snapshots keep nobody out.

        NotFoundError for a snapshot that is listed and cannot be found: alone here, nobody removed it."""
        with ExitStack() as stack:
            files = self.files()
            journal = Journal(None, self.id)
            lock: RepositoryLock = NoLock()
            if not (only_looks and self._options.no_lock):
                journal = stack.enter_context(Journal(self._options.state, self.id))
                if not only_looks:
                    self._config.check_writable(self.location)
                lock = stack.enter_context(self._lock(files, journal, exclusive=True))
                files = self.files()  # as it is now: waiting for the lock may have taken long
            self._index, self._snapshots = None, {}
            alone = not isinstance(lock, NoLock)
            versions = tuple(self._load_versions(files, none_vanish=alone)) if with_versions else ()
            yield Held(files, self._key, self.key_id, lock, journal, self._options, versions)

    @contextmanager
    def shared(self, *, only_looks: bool = False) -> Iterator[SealedFiles]:
        """The repository's files under a shared lock. What ``only_looks`` needs none if the user
        wants none."""
        files = self.files()
        if only_looks and self._options.no_lock:
            yield files
            return
        retry_s = self._options.retry_lock_s
        with RepositoryLock(files, lambda name: None, self._options.reporter, self._times, retry_s=retry_s):
            yield files

    def care(self) -> RepositoryCare:
        from cdr_restic.care import ResticCare

        return ResticCare(self, self._storage, self._key, self._options)

    def _session(
        self,
        files: SealedFiles,
        index: MemoryIndex,
        lock: RepositoryLock,
        journal: Journal,
        versions: Sequence[StoredVersion],
    ) -> ResticPass:
        return ResticPass(
            files,
            self._key,
            index,
            lock=lock,
            journal=journal,
            encoder=BlobEncoder(files.version, self._options.compression),
            pack_size=self._options.pack_size,
            versions=versions,
        )

    def versions(self) -> Sequence[StoredVersion]:
        return self._load_versions(self.files())

    def reading(self) -> AbstractContextManager[RepositoryReader]:
        return self._reading()

    @contextmanager
    def _reading(self) -> Iterator[RepositoryReader]:
        with self.shared(only_looks=True) as files:
            reader = ResticReader(self._storage, self._key, self._load_index(files))
            try:
                yield reader
            finally:
                reader.close()

    def close(self) -> None:
        self._index = None
        self._snapshots = {}

    def files(self) -> SealedFiles:
        """Files as the config now says: restic may have upgraded the repository meanwhile."""
        config = load_config(self._storage, self._key)
        if config.id != self.id:
            raise IntegrityError(f"repository {self.location} was replaced by another one; open it again")
        self._config = config
        return SealedFiles(self._storage, self._key, config.version)

    def _load_index(self, files: SealedFiles) -> MemoryIndex:
        names = set(self._storage.list(FileKind.INDEX))
        if self._index is None or not self._index_files <= names:
            # Something was pruned, or a pass of ours broke off.
            self._index, self._index_files = MemoryIndex(), set()
        for name in names - self._index_files:
            data = files.load(FileKind.INDEX, name)
            try:
                self._index.load(data, files.version)
            except FormatError as error:
                raise files.damaged(FileKind.INDEX, name, error) from None
            self._index_files.add(name)
        return self._index

    def _load_versions_cached(self, files: SealedFiles) -> list[StoredVersion]:
        """For a pass, which is to cost what is new. Whoever cares for the repository reads each file."""
        folder = None if self._options.reads_all else self._options.state
        cache = SnapshotCache(folder, self.id, self._key)
        known = self._snapshots = self._snapshots or cache.load()
        versions = self._load_versions(files)
        if len(self._snapshots.keys() - known.keys()) * _SAVE_PART > len(self._snapshots):
            cache.save(self._snapshots)
        return versions

    def _load_versions(self, files: SealedFiles, *, none_vanish: bool = False) -> list[StoredVersion]:
        """Oldest first. NotFoundError, if ``none_vanish``, for one that is listed and not there."""
        names = set(self._storage.list(FileKind.SNAPSHOTS))
        found = [StoredVersion(name, snapshot) for name, snapshot in self._snapshots.items() if name in names]
        for name in names - self._snapshots.keys():
            try:
                insort(found, StoredVersion(name, _load_snapshot(files, name)), key=_age)
            except NotFoundError:  # removed since it was listed
                if none_vanish:
                    raise
        self._snapshots = {version.id: version.snapshot for version in found}
        return found


def _age(version: StoredVersion) -> tuple[tuple[int, int], str]:
    return parse_time(version.snapshot.time), version.id


def _load_snapshot(files: SealedFiles, name: str) -> Snapshot:
    data = files.load(FileKind.SNAPSHOTS, name)
    try:
        snapshot = decode_snapshot(data)
        parse_time(snapshot.time)
    except FormatError as error:
        raise files.damaged(FileKind.SNAPSHOTS, name, error) from None
    return snapshot
