"""What a place must offer to hold a repository: named files of six kinds, saved whole."""

from __future__ import annotations

import errno
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from hashlib import sha256

from cdr_plugin.errors import IntegrityError, NotFoundError, RemoteError, StorageFullError
from cdr_plugin.model.blobs import Buffer

is_file_name = re.compile(r"[0-9a-f]{64}").fullmatch
"""File names are the SHA-256 of the bytes; anything else in a folder is not part of the repository."""

_PIECE_BYTES = 4 * 1024 * 1024

MAX_FILE_BYTES = 512 * 1024 * 1024
"""Of a file that is loaded whole. restic's largest indexes (560,000 blobs) are below 150 MB."""


class FileKind(StrEnum):
    """Kinds of files, in restic's words. There is one config; its name is empty."""

    DATA = "data"
    INDEX = "index"
    KEYS = "keys"
    LOCKS = "locks"
    SNAPSHOTS = "snapshots"
    CONFIG = "config"


class Storage(ABC):
    """Files by kind and name. May be used by several threads at once.

    Raises RemoteError: NotFoundError where a file is missing, StorageFullError without room.
    """

    location: str
    """As the user wrote it, for messages."""

    @abstractmethod
    def make_folders(self) -> None:
        """Prepare an empty place for a repository; no error when it is prepared already."""

    @abstractmethod
    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        """Store durably and atomically: readers see the whole file or none, also after a crash."""

    @abstractmethod
    def load_part(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        """Bytes of a file; shorter at its end."""

    @abstractmethod
    def size(self, kind: FileKind, name: str) -> int:
        """Of a file, in bytes."""

    @abstractmethod
    def list(self, kind: FileKind) -> Iterator[str]:
        """Names that ``is_file_name`` accepts, in no order."""

    def list_sizes(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        """``list`` with the size of each file. The default asks for each; files that vanish meanwhile are left out."""
        for name in self.list(kind):
            try:
                yield name, self.size(kind, name)
            except NotFoundError:
                continue

    @contextmanager
    def opened(self, kind: FileKind, name: str) -> Iterator[int]:
        """A descriptor for reading a file on this machine that holds the bytes, perhaps a temporary copy.

        The default copies in pieces of 4 MiB into a nameless file in ``$TMPDIR``, as restic does for packs.
        """
        size = self.size(kind, name)
        with tempfile.TemporaryFile() as copy:
            for offset in range(0, size, _PIECE_BYTES):
                try:
                    copy.write(self.load_part(kind, name, offset, min(_PIECE_BYTES, size - offset)))
                except OSError as error:
                    raise storage_error(error, f"cannot write a temporary file in {tempfile.gettempdir()}") from None
            copy.flush()
            yield copy.fileno()

    @abstractmethod
    def remove(self, kind: FileKind, name: str) -> None:
        """Remove a file; no error when it is gone."""

    def sync_removals(self, kind: FileKind) -> None:
        """Returns when removals of this kind so far survive a loss of power; for places where a removal always does,
        nothing."""

    def exists(self, kind: FileKind, name: str) -> bool:
        try:
            self.size(kind, name)
        except NotFoundError:
            return False
        return True

    def load(self, kind: FileKind, name: str) -> bytes:
        """A whole file, checked against its name; read once more when it differs, since a
        connection damages bytes more often than a disk. The config has no hash to check."""
        for attempt in (1, 2):
            size = self.size(kind, name)
            if size > MAX_FILE_BYTES:
                raise IntegrityError(f"{self.describe(kind, name)}: {size} bytes are too many to be one")
            data = self.load_part(kind, name, 0, size)
            if kind is FileKind.CONFIG or sha256(data).hexdigest() == name:
                return data
            if attempt == 2:
                break
        raise IntegrityError(f"{self.describe(kind, name)} is damaged: its SHA-256 differs from its name")

    def describe(self, kind: FileKind, name: str) -> str:
        """For messages."""
        which = f"{kind} {name[:10]}".rstrip()
        return f"{which} of repository {self.location}"


def storage_error(error: OSError, what: str) -> RemoteError:
    """The error that CDR raises for one of the operating system."""
    text = f"{what}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFullError(f"{text}; free some space and try again")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFoundError(text)
    return RemoteError(text)
