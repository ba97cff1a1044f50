"""Writes files of at most one blob, from nothing to their final names, on a few threads.

Making such a file is seven system calls and little else. The kernel makes a batch of them without the
interpreter lock; what it cannot do (attributes, inherited ACLs, reading back) is done here, file by file.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeAlias

from cdr_plugin.errors import CdrError, IntegrityError
from cdr_plugin.kernel import Step, make_files
from cdr_plugin.restore.contents import NEW_FILE, put_blob, read_back
from cdr_plugin.restore.folders import Folder, Folders
from cdr_plugin.restore.metadata import WHOLLY, Applied, apply_to_fd
from cdr_plugin.restore.pending import PendingFile, wrong_size
from cdr_plugin.restore.placing import Places, appeared

_THREADS = min(2, os.cpu_count() or 1)
_BATCH_FILES = 64
_BATCH_BYTES = 4 * 1024 * 1024
_BATCHES_UNDER_WAY = 2 * _THREADS

_Outcome: TypeAlias = Applied | OSError | ValueError | CdrError
"""How its metadata went, or why the file was not made."""

_Making: TypeAlias = tuple[int, bytes, bytes, bytes, int, int, int, int, int, bool]
"""A file as the kernel makes it."""

_END_OF_TIME_NS = 1 << 63
"""In the year 2262. The kernel knows no other times."""

_IN_PLACE = frozenset({Step.OWN, Step.MODE, Step.TIMES})
"""Steps whose failure leaves a file in place."""

Settle: TypeAlias = Callable[[PendingFile, _Outcome], None]
"""Told of each file on the thread that adds them."""


class WholeFiles:
    """Collects files into batches. ``close`` waits for what is under way."""

    def __init__(self, folders: Folders, places: Places, settle: Settle, *, verify: bool, sparse: bool) -> None:
        self._folders = folders
        self._places = places
        self._settle = settle
        self._verify = verify
        self._sparse = sparse
        self._batch: list[tuple[PendingFile, bytes]] = []
        self._batch_bytes = 0
        self._under_way: deque[tuple[_Batch, Future[list[_Outcome]]]] = deque()
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="restore")

    def add(self, file: PendingFile, data: bytes) -> None:
        """``data`` is the whole content. May settle files that were added before."""
        self._batch.append((file, data))
        self._batch_bytes += len(data)
        if len(self._batch) >= _BATCH_FILES or self._batch_bytes >= _BATCH_BYTES:
            self._submit()

    def drain(self) -> None:
        """Returns when everything added is settled."""
        self._submit()
        while self._under_way:
            self._settle_oldest()

    def close(self) -> None:
        """Forget what is not under way yet; nobody is told."""
        self._executor.shutdown(cancel_futures=True)
        while self._under_way:
            self._under_way.popleft()[0].close()

    def _submit(self) -> None:
        if not self._batch:
            return
        while len(self._under_way) >= _BATCHES_UNDER_WAY:
            self._settle_oldest()
        batch = _Batch(self._batch, self._folders, self._places, verify=self._verify, sparse=self._sparse)
        self._batch = []
        self._batch_bytes = 0
        self._under_way.append((batch, self._executor.submit(batch.run)))

    def _settle_oldest(self) -> None:
        batch, future = self._under_way[0]
        outcomes = future.result()
        self._under_way.popleft()
        batch.close()
        for (file, _), outcome in zip(batch.files, outcomes, strict=True):
            self._settle(file, outcome)


class _Batch:
    """Files to be made, with descriptors of their folders that stay open until ``close``."""

    def __init__(
        self,
        files: list[tuple[PendingFile, bytes]],
        folders: Folders,
        places: Places,
        *,
        verify: bool,
        sparse: bool,
    ) -> None:
        self.files = files
        self._places = places
        self._verify = verify
        self._sparse = sparse
        self._fds: dict[Folder, int | OSError] = {}
        for file, _ in files:
            if file.folder not in self._fds:
                self._fds[file.folder] = _duplicate(folders, file.folder)

    def close(self) -> None:
        for fd in self._fds.values():
            if isinstance(fd, int):
                os.close(fd)
        self._fds.clear()

    def run(self) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        usual: list[_Making] = []
        places: list[int] = []
        for file, data in self.files:
            fd = self._fds[file.folder]
            if not isinstance(fd, int):
                outcomes.append(fd)
            elif self._is_usual(file, data):
                places.append(len(outcomes))
                usual.append(self._making(fd, file, data))
                outcomes.append(WHOLLY)
            else:
                outcomes.append(self._try(fd, file, data))
        for number, step, error in make_files(usual, self._sparse):
            outcomes[places[number]] = _outcome(step, error)
        return outcomes

    def _is_usual(self, file: PendingFile, data: bytes) -> bool:
        """Can the kernel make it?"""
        metadata = file.metadata
        return not (
            self._verify
            or metadata.attributes
            or file.folder.inherits
            or len(data) != file.size
            or abs(metadata.mtime_ns) >= _END_OF_TIME_NS
            or abs(metadata.atime_ns) >= _END_OF_TIME_NS
        )

    def _making(self, dir_fd: int, file: PendingFile, data: bytes) -> _Making:
        metadata = file.metadata
        keep = self._places.keeps(file.folder)
        times = metadata.atime_ns, metadata.mtime_ns
        return (
            dir_fd, self._places.temporary(), file.name, data, metadata.mode, metadata.uid, metadata.gid, *times, keep
        )  # fmt: skip

    def _try(self, fd: int, file: PendingFile, data: bytes) -> _Outcome:
        try:
            return self._make(fd, file, data)
        except (OSError, ValueError, IntegrityError) as error:
            return error

    def _make(self, dir_fd: int, file: PendingFile, data: bytes) -> Applied:
        if len(data) != file.size:
            raise wrong_size(file, len(data))
        temporary = self._places.temporary()
        fd = os.open(temporary, NEW_FILE, 0o600, dir_fd=dir_fd)
        try:
            if put_blob(fd, 0, data, sparse=self._sparse):
                os.ftruncate(fd, len(data))
            if self._verify:
                read_back(fd, file.size, file.ids, {})
            applied = apply_to_fd(fd, file.metadata, clean=file.folder.inherits)
        except BaseException:
            os.unlink(temporary, dir_fd=dir_fd)
            raise
        finally:
            os.close(fd)
        self._places.take(dir_fd, file.folder, temporary, file.name)
        return applied


def _outcome(step: int, number: int) -> _Outcome:
    """What a failure of the kernel means."""
    if step == Step.LOOK and number == errno.EEXIST:
        return appeared()
    error = OSError(number, os.strerror(number))
    return Applied(True, error) if step in _IN_PLACE else error


def _duplicate(folders: Folders, folder: Folder) -> int | OSError:
    try:
        return os.dup(folders.fd(folder))
    except OSError as error:
        return error
