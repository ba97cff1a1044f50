"""restic's layout of a repository on local disk.

A file is written as ``<final name>-tmp-<random>`` beside its final name, synced, renamed, and its
folder synced; its write permissions go last. Leftovers of a crash are no file names: harmless.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from cdr_plugin.errors import RemoteError, UserError
from cdr_plugin.model.blobs import Buffer
from cdr_restic.storage import FileKind, Storage, is_file_name, storage_error

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):").match
_FOLDERS = (FileKind.INDEX, FileKind.KEYS, FileKind.LOCKS, FileKind.SNAPSHOTS)
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
"""What file systems say that cannot sync; restic tolerates it as well."""


def local_path(location: str) -> Path | None:
    """The folder that ``location`` names; None when it names another kind of place."""
    scheme = _SCHEME(location)
    if scheme is None:
        return Path(location)
    return Path(location[scheme.end() :]) if scheme[1] == "local" else None


class LocalStorage(Storage):
    """A repository in a folder. UserError when ``location`` is of another kind."""

    def __init__(self, location: str) -> None:
        path = local_path(location)
        if path is None or not location.removeprefix("local:"):
            raise UserError(
                f"repository {location!r}: only folders of this machine are supported so far, "
                "as /path/to/repository or local:/path/to/repository"
            )
        self.location = location
        self._root = path
        self._group = _group_bits(path / "config")

    def make_folders(self) -> None:
        data = self._root / "data"
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (data, *(self._root / kind for kind in _FOLDERS)):
                folder.mkdir(mode=0o700, exist_ok=True)
            for prefix in range(256):
                (data / f"{prefix:02x}").mkdir(mode=0o700, exist_ok=True)
            for folder in (data, self._root, self._root.parent):
                _sync_folder(folder)
        except OSError as error:
            raise storage_error(error, f"cannot create repository {self.location}") from None

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        final = self._path(kind, name)
        temporary = final.with_name(f"{final.name}-tmp-{os.urandom(8).hex()}")
        try:
            try:
                self._write(temporary, data)
                temporary.rename(final)
            except BaseException:
                with contextlib.suppress(OSError):
                    temporary.unlink()
                raise
            _sync_folder(final.parent)
            with contextlib.suppress(OSError):
                final.chmod(0o440 if self._group else 0o400)
        except OSError as error:
            raise storage_error(error, f"cannot write {self.describe(kind, name)}") from None

    def _write(self, path: Path, data: Buffer) -> None:
        descriptor = self._create(path)
        try:
            with memoryview(data) as view:
                done = 0
                while done < len(view):
                    done += os.write(descriptor, view[done:])
                if os.fstat(descriptor).st_size != len(view):
                    raise OSError(errno.EIO, "the file has another size than what was written")
            _sync(descriptor)
        finally:
            os.close(descriptor)

    def _create(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        mode = 0o660 if self._group else 0o600
        try:
            return os.open(path, flags, mode)
        except FileNotFoundError:
            if not self._root.is_dir():
                raise
            path.parent.mkdir(mode=0o770 if self._group else 0o700, exist_ok=True)
            _sync_folder(path.parent.parent)
            return os.open(path, flags, mode)

    def load_part(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        try:
            descriptor = os.open(self._path(kind, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                return _read(descriptor, offset, length)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_error(error, f"cannot read {self.describe(kind, name)}") from None

    @contextlib.contextmanager
    def opened(self, kind: FileKind, name: str) -> Iterator[int]:
        try:
            descriptor = os.open(self._path(kind, name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise storage_error(error, f"cannot read {self.describe(kind, name)}") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def size(self, kind: FileKind, name: str) -> int:
        try:
            status = self._path(kind, name).stat()
        except OSError as error:
            raise storage_error(error, f"cannot read {self.describe(kind, name)}") from None
        if not stat.S_ISREG(status.st_mode):
            raise RemoteError(f"{self.describe(kind, name)} is not a regular file")
        return status.st_size

    def list(self, kind: FileKind) -> Iterator[str]:
        for path in self._folders(kind):
            try:
                yield from filter(is_file_name, [found.name for found in path.iterdir()])
            except (FileNotFoundError, NotADirectoryError):
                self._refuse_to_lose(kind)
            except OSError as error:
                raise storage_error(error, f"cannot list {kind} of repository {self.location}") from None

    def list_sizes(self, kind: FileKind) -> Iterator[tuple[str, int]]:
        for folder in self._folders(kind):
            try:
                with os.scandir(folder) as found:
                    sizes = [(entry.name, _regular_size(entry)) for entry in found if is_file_name(entry.name)]
            except (FileNotFoundError, NotADirectoryError):
                self._refuse_to_lose(kind)
            except OSError as error:
                raise storage_error(error, f"cannot list {kind} of repository {self.location}") from None
            yield from [(name, size) for name, size in sizes if size is not None]

    def _refuse_to_lose(self, kind: FileKind) -> None:
        """Without versions or indexes a repository is not empty but damaged: pruning it would remove all data."""
        if kind in (FileKind.SNAPSHOTS, FileKind.INDEX) and (self._root / "config").exists():
            raise RemoteError(
                f"repository {self.location} has no folder '{kind}'; put it back, or, when it is lost for good, "
                "make an empty one"
            )

    def _folders(self, kind: FileKind) -> Sequence[Path]:
        folder = self._root / kind
        return [folder / f"{prefix:02x}" for prefix in range(256)] if kind is FileKind.DATA else [folder]

    def remove(self, kind: FileKind, name: str) -> None:
        try:
            self._path(kind, name).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, f"cannot remove {self.describe(kind, name)}") from None

    def sync_removals(self, kind: FileKind) -> None:
        try:
            for folder in self._folders(kind):
                _sync_folder(folder)
        except OSError as error:
            raise storage_error(error, f"cannot sync {kind} of repository {self.location}") from None

    def _path(self, kind: FileKind, name: str) -> Path:
        if kind is FileKind.CONFIG:
            return self._root / "config"
        if kind is FileKind.DATA:
            return self._root / "data" / name[:2] / name
        return self._root / kind / name


def _regular_size(entry: os.DirEntry[str]) -> int | None:
    """None for what is gone by now, and for what is no file."""
    try:
        status = entry.stat()
    except FileNotFoundError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _group_bits(config: Path) -> bool:
    """Whether the repository is shared by a group: restic goes by the config's mode."""
    try:
        return bool(config.stat().st_mode & 0o040)
    except OSError:
        return False


def _read(descriptor: int, offset: int, length: int) -> bytes:
    """Never more than the file holds, so that a claimed ``length`` allocates nothing."""
    length = min(length, os.fstat(descriptor).st_size - offset)
    pieces: list[bytes] = []
    while length > 0:
        piece = os.pread(descriptor, length, offset)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)
