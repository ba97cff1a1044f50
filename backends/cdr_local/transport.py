"""The transport over a folder: each object is a file of its name."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from cdr_plugin.contracts import Ability, ObjectInfo, Transport, Travelled
from cdr_plugin.errors import NotFoundError, RemoteError
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.transports.names import MAX_COMPONENTS, is_component, split_folder, split_name

from . import files, folders, partial
from .failures import translated

_STALE_AFTER_S = {files.TEMPORARY: 24 * 3600, partial.PARTIAL: 30 * 24 * 3600}
"""Age in seconds at which a hidden file is removed, by the start of its name. A temporary one belongs to a
crashed put then, since a living one takes minutes; a partial one to a client that was away for a month."""


class LocalTransport(Transport):
    """Objects as files below one folder, which stays open so that an unmounted disk is an error
    and not an empty folder.

    Symbolic links below the root are never followed; what is not a regular file is no object.
    Hard links save the second copy only between files and folders of one user: elsewhere the
    reader may be another user who could not read the file, or the writer one who could still
    change it.
    """

    abilities = Ability.LINK | Ability.FREE_SPACE | Ability.RESUME

    def __init__(self, root: int, path: Path, *, links: bool = True) -> None:
        """Owns the descriptor ``root`` of the folder ``path``; see ``open``."""
        self._root = root
        self._path = path
        self._links = links
        if not links:
            self.abilities &= ~Ability.LINK

    @classmethod
    def open(cls, path: Path, *, create: bool = False, links: bool = True) -> Self:
        """NotFoundError when there is no folder (and ``create`` is false), RemoteError. Without
        ``links``, files are copied also where a hard link would do."""
        with translated("opening the storage", str(path)):
            try:
                return cls(folders.open_root(path, create=create), path, links=links)
            except FileNotFoundError:
                raise NotFoundError(
                    f"opening the storage {path}: no such folder; create it, mount it, or run 'cdr init'"
                ) from None

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        def fill(target: int) -> None:
            files.write_all(target, data)

        self._store(
            name,
            lambda folder, leaf: files.write_new(folder, leaf, fill, overwrite=overwrite),
            lambda there: files.same_bytes(there, data),
        )

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        """``put`` of a file's bytes by hard link or copy; never in memory. Goes on where a copy of the
        same file was cut off; what is there is compared first."""
        there = 0

        def place(folder: int, leaf: str) -> bool:
            nonlocal there
            may_link = self._links and owner == os.fstat(folder).st_uid
            linked = _linked(source, folder, leaf) if may_link else None
            if linked is not None:
                return linked
            if _exists(folder, leaf):
                there = os.fstat(source).st_size
                return False
            is_new, there = partial.place(source, folder, leaf, moved)
            return is_new

        with translated("reading", str(path)):
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            owner = os.fstat(source).st_uid
            self._store(name, place, lambda there: files.same_files(there, source))
        finally:
            os.close(source)
        return there

    def _store(self, name: str, place: Callable[[int, str], bool], same: Callable[[int], bool]) -> None:
        """Make the folders, ``place`` the object, check one that was there, sync all folders.

        A folder may vanish between making and using it, since deleting removes empty ones.
        """
        *above, leaf = split_name(name)
        with translated("storing", self._label(name)):
            for tries_left in reversed(range(folders.MAKE_TRIES)):
                try:
                    with folders.opened(self._root, above, create=True) as chain:
                        if not place(chain[-1], leaf):
                            self._check_existing(name, chain[-1], leaf, same)
                        folders.make_durable(chain)
                        return
                except FileNotFoundError:
                    if not tries_left:
                        raise

    def _check_existing(self, name: str, folder: int, leaf: str, same: Callable[[int], bool]) -> None:
        if not stat.S_ISREG(os.lstat(leaf, dir_fd=folder).st_mode):
            raise RemoteError(f"storing {self._label(name)}: what is there is not a file; remove it")
        with files.opened_object(folder, leaf) as (there, _):
            if not same(there):
                raise RemoteError(f"storing {self._label(name)}: it exists already, with other bytes")
            os.fsync(there)

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self._object("reading", name) as (descriptor, status):
            rest = max(status.st_size - offset, 0)
            return files.read_range(descriptor, offset, rest if length is None else min(length, rest))

    def get_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> None:
        """Link or copy an object to the new file ``path``; RemoteError when that exists."""
        with (
            self._object("copying", name) as (source, status),
            translated(f"copying {self._label(name)} to", str(path)),
            _opened_path(path.parent) as folder,
        ):
            placed = _linked(source, folder, path.name) if self._links and status.st_uid == os.geteuid() else None
            if placed is None:
                placed = files.write_new(folder, path.name, lambda target: files.copy_contents(source, target, moved))
            if not placed:
                raise FileExistsError(errno.EEXIST, "this file exists already")
            os.fsync(folder)

    def stat(self, name: str) -> ObjectInfo:
        *above, leaf = split_name(name)
        with self._reading("looking at", name), folders.opened(self._root, above) as chain:
            status = os.lstat(leaf, dir_fd=chain[-1])
            if not stat.S_ISREG(status.st_mode):
                raise FileNotFoundError(errno.ENOENT, "not a regular file")
            return _info(name, status)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """See the contract. Removes what puts have left that crashed a day, or were cut a month ago."""
        components = split_folder(folder)
        try:
            with self._reading("listing", folder), folders.opened(self._root, components) as chain:
                yield from _walk(chain[-1], components)
        except NotFoundError:
            return

    def delete(self, name: str) -> None:
        *above, leaf = split_name(name)
        try:
            with self._reading("deleting", name), folders.opened(self._root, above) as chain:
                with suppress(FileNotFoundError):
                    if stat.S_ISREG(os.lstat(leaf, dir_fd=chain[-1]).st_mode):
                        os.unlink(leaf, dir_fd=chain[-1])
                folders.prune(chain, above)
        except NotFoundError:
            return

    def free_space(self) -> int | None:
        with translated("asking for the free space of", str(self._path)):
            status = os.fstatvfs(self._root)
            return status.f_bavail * status.f_frsize

    def close(self) -> None:
        """Idempotent; every use afterwards is a RemoteError."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def _label(self, name: str) -> str:
        return f"{self._path}/{name}" if name else str(self._path)

    @contextmanager
    def _reading(self, doing: str, name: str) -> Iterator[None]:
        """Like ``translated``; nothing there, or a link or file where a folder should be, is
        NotFoundError."""
        with translated(doing, self._label(name)):
            try:
                yield
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise NotFoundError(f"{doing} {self._label(name)}: there is no such object") from None
                raise

    @contextmanager
    def _object(self, doing: str, name: str) -> Iterator[tuple[int, os.stat_result]]:
        *above, leaf = split_name(name)
        with (
            self._reading(doing, name),
            folders.opened(self._root, above) as chain,
            files.opened_object(chain[-1], leaf) as found,
        ):
            yield found


def _linked(source: int, folder: int, leaf: str) -> bool | None:
    """Give the file a second name; False when that is taken, None where there can be no link."""
    os.fsync(source)
    try:
        return files.link(source, folder, leaf) or None
    except FileExistsError:
        return False


def _exists(folder: int, leaf: str) -> bool:
    try:
        os.lstat(leaf, dir_fd=folder)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _opened_path(folder: Path) -> Iterator[int]:
    descriptor = folders.open_root(folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _walk(folder: int, components: Sequence[str]) -> Iterator[ObjectInfo]:
    """Objects below an open folder. One descriptor per level, one entry at a time."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(tuple(_STALE_AFTER_S)):
                _sweep(folder, entry.name)
            elif is_component(entry.name) and len(components) < MAX_COMPONENTS:
                with suppress(FileNotFoundError, NotADirectoryError):  # gone, or exchanged, since it was read
                    yield from _visit(folder, entry, [*components, entry.name])


def _visit(folder: int, entry: os.DirEntry[str], components: Sequence[str]) -> Iterator[ObjectInfo]:
    if entry.is_dir(follow_symlinks=False):
        with folders.opened(folder, [entry.name]) as (_, below):
            yield from _walk(below, components)
    elif entry.is_file(follow_symlinks=False):
        yield _info("/".join(components), entry.stat(follow_symlinks=False))


def _info(name: str, status: os.stat_result) -> ObjectInfo:
    # A put writes another file: the inode tells two puts apart that one tick of the clock has seen.
    return ObjectInfo(name, status.st_size, f"{status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}")


def _sweep(folder: int, name: str) -> None:
    stale_s = next(age_s for prefix, age_s in _STALE_AFTER_S.items() if name.startswith(prefix))
    with suppress(OSError):
        if time.time() - os.lstat(name, dir_fd=folder).st_mtime > stale_s:
            os.unlink(name, dir_fd=folder)
