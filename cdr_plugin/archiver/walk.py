"""The walk: every folder to be archived, after its subfolders, with the entries that are included."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cdr_plugin import kernel
from cdr_plugin.archiver.exclude import Excluder, display
from cdr_plugin.archiver.mapped import Locator
from cdr_plugin.archiver.options import ArchiveOptions
from cdr_plugin.archiver.stats import (
    DEVICE_AND_INODE,
    DIRECTORY,
    SIZE,
    SOCKET,
    UNKNOWN,
    devices,
    find_inode,
    kinds_of,
    pack_stat,
    positions,
    sizes,
    without,
)
from cdr_plugin.archiver.targets import Place
from cdr_plugin.model.blobs import BlobId

if TYPE_CHECKING:
    from cdr_plugin.archiver.stream import Stream

ReportError = Callable[[str, str], None]
"""(item, what happened); counts as an error of the run."""


@dataclass(slots=True, eq=False)
class Folder:
    """One folder of the snapshot.

    ``key`` is its path there, without a leading slash. ``names`` ascend as bytes; ``stats`` and
    ``kinds`` go with them. ``scanned_ns`` is the clock just before the entries were examined.
    ``paths`` gives (path to open, path to show) of each entry where the folder is part of the
    layout of targets; elsewhere entries are found below ``path`` and shown below ``shown``.
    ``trees`` holds the tree IDs of finished subfolders by name, ``lost`` the names of those that
    could not be scanned. ``stream`` gives the content of the only file in it.
    """

    key: bytes
    path: bytes
    shown: bytes
    parent: Folder | None
    names: list[bytes]
    stats: bytes
    scanned_ns: int
    kinds: bytes = b""
    paths: dict[bytes, tuple[bytes, bytes]] | None = None
    places: dict[bytes, Place] = field(default_factory=dict)
    allowed_device: int | None = None
    atimes: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    trees: dict[bytes, BlobId] = field(default_factory=dict)
    lost: set[bytes] = field(default_factory=set)
    stream: Stream | None = None

    def __post_init__(self) -> None:
        self.kinds = kinds_of(self.stats)

    @property
    def name(self) -> bytes:
        return self.key.rpartition(b"/")[2]

    def entry_path(self, name: bytes) -> bytes:
        """The path under which an entry is opened."""
        return self.paths[name][0] if self.paths is not None else self.path + b"/" + name

    def entry_shown(self, name: bytes) -> bytes:
        """The absolute path that patterns and messages use for an entry."""
        return self.paths[name][1] if self.paths is not None else self.shown + b"/" + name

    def follows(self, name: bytes) -> bool:
        """Is the entry a folder on the way to a target, where links are followed?"""
        place = self.places.get(name)
        return place is not None and place.path is None

    def drop(self, positions: Collection[int]) -> None:
        """Leave entries out after all."""
        self.names, self.stats = without(self.names, self.stats, positions)
        self.kinds = kinds_of(self.stats)


class Walker:
    """Scans folders by the options. Belongs to one thread; ``report`` hears of what is left out."""

    def __init__(
        self,
        options: ArchiveOptions,
        locator: Locator,
        targets: list[bytes],
        excluder: Excluder,
        report: ReportError,
    ) -> None:
        self._options = options
        self._locator = locator
        self._excluder = excluder
        self._report = report
        self._own = [DEVICE_AND_INODE.pack(device, inode) for device, inode in options.own]
        self._devices = self._target_devices(targets) if options.one_file_system else {}

    def folders(self, layout: Place) -> Iterator[Folder]:
        """All folders, subfolders first; the last one is the root of the snapshot.

        A folder that cannot be scanned is reported and dropped from its parent before that comes.
        """
        root = self._place_folder(layout, None, b"")
        stack = [(root, iter(self._subfolders(root)))]
        while stack:
            folder, names = stack[-1]
            name = next(names, None)
            if name is None:
                stack.pop()
                if folder.lost:
                    folder.drop({i for i, entry in enumerate(folder.names) if entry in folder.lost})
                yield folder
            elif (child := self._open(folder, name)) is not None:
                stack.append((child, iter(self._subfolders(child))))

    def _subfolders(self, folder: Folder) -> list[bytes]:
        return [folder.names[i] for i in positions(folder.kinds, DIRECTORY)]

    def _open(self, parent: Folder, name: bytes) -> Folder | None:
        if parent.follows(name):
            return self._place_folder(parent.places[name], parent, name)
        try:
            return self._scan(parent, name)
        except OSError as error:
            self._report(display(parent.entry_shown(name)), _text(error))
            parent.lost.add(name)
            return None

    # --- folders of the file system

    def _scan(self, parent: Folder, name: bytes) -> Folder:
        path = parent.entry_path(name)
        scanned_ns = time.time_ns()
        names, stats = kernel.scan_directory(path)
        folder = Folder(
            key=parent.key + b"/" + name if parent.key else name,
            path=path,
            shown=parent.entry_shown(name),
            parent=parent,
            names=names,
            stats=stats,
            scanned_ns=scanned_ns,
        )
        grafts = self._locator.grafts(folder.shown)
        if grafts:
            self._graft(folder, grafts)
        if self._devices:
            folder.allowed_device = self._allowed_device(folder.shown)
        self._select(folder)
        if self._options.with_atime:
            self._read_atimes(folder)
        return folder

    def _graft(self, folder: Folder, grafts: dict[bytes, bytes]) -> None:
        """Let entries be what is found elsewhere, whether or not there is something of their name here."""
        records = {name: folder.stats[SIZE * i : SIZE * i + SIZE] for i, name in enumerate(folder.names)}
        records |= {name: pack_stat(os.lstat(now)) for name, now in grafts.items()}
        folder.names = sorted(records)
        folder.stats = b"".join(records[name] for name in folder.names)
        folder.kinds = kinds_of(folder.stats)
        here = {name: (os.path.join(folder.path, name), os.path.join(folder.shown, name)) for name in folder.names}
        folder.paths = here | {name: (now, here[name][1]) for name, now in grafts.items()}

    def _select(self, folder: Folder) -> None:
        drop: set[int] = set()
        for own in self._own:
            drop.update(find_inode(folder.stats, own))
        folder.stats = self._locator.stable(folder.stats)
        if self._excluder.by_name:
            drop |= self._excluder.names(folder.shown, folder.path, folder.names)
        if SOCKET in folder.kinds:
            drop.update(positions(folder.kinds, SOCKET))
        if UNKNOWN in folder.kinds:
            drop |= self._unknown(folder, drop)
        if self._excluder.larger_than is not None:
            drop |= self._too_large(folder, self._excluder.larger_than)
        if folder.allowed_device is not None:
            drop |= self._on_other_devices(folder, folder.allowed_device)
        if drop:
            folder.drop(drop)

    def _unknown(self, folder: Folder, excluded: set[int]) -> set[int]:
        unknown = set(positions(folder.kinds, UNKNOWN))
        for i in sorted(unknown - excluded):
            name = folder.names[i]
            self._report(display(folder.entry_shown(name)), _why(folder.entry_path(name)))
        return unknown

    def _too_large(self, folder: Folder, limit: int) -> set[int]:
        all_sizes = enumerate(sizes(folder.stats))
        return {i for i, size in all_sizes if size > limit and folder.kinds[i] != DIRECTORY}

    def _on_other_devices(self, folder: Folder, allowed: int) -> set[int]:
        """What is mounted here is left out, but for the folder on which it is mounted."""
        found = devices(folder.stats)
        if found.count(allowed) == len(found):
            return set()
        mount_points = self._locator.device(os.lstat(folder.path).st_dev) == allowed
        return {
            i
            for i, device in enumerate(found)
            if device != allowed and not (mount_points and folder.kinds[i] == DIRECTORY)
        }

    def _read_atimes(self, folder: Folder) -> None:
        for name in folder.names:
            try:
                atime_ns = os.lstat(folder.entry_path(name)).st_atime_ns
            except OSError:
                continue  # vanished: whoever reads it will say so
            folder.atimes[name] = divmod(atime_ns, 10**9)

    # --- the layout of targets

    def _place_folder(self, place: Place, parent: Folder | None, name: bytes) -> Folder:
        """A folder that holds targets, or folders on the way to them."""
        key = parent.key + b"/" + name if parent is not None and parent.key else name
        folder = Folder(
            key=key,
            path=b"",
            shown=b"/" + key,
            parent=parent,
            names=[],
            stats=b"",
            scanned_ns=time.time_ns(),
            paths={},
        )
        records = []
        for child_name, child in sorted(place.children.items()):
            record = self._place_record(folder, child_name, child)
            if record is not None:
                folder.names.append(child_name)
                records.append(record)
        folder.stats = b"".join(records)
        folder.kinds = kinds_of(folder.stats)
        return folder

    def _place_record(self, folder: Folder, name: bytes, place: Place) -> bytes | None:
        """Note an entry of the layout; None when it is excluded or cannot be had."""
        typed = place.path if place.path is not None else place.info_path
        shown, path = self._locator.shown(typed), self._locator.opened(typed)
        if place.path is not None and self._excluder.by_name and self._excluder.target(shown, self._beside(shown)):
            return None
        try:
            st = os.lstat(path) if place.path is not None else os.stat(path)
            if self._locator.mapped(shown) is None and _is_same(shown, st, follow=place.path is None):
                path = shown
            if place.path is not None and self._leaves_out(shown, st):
                return None
        except OSError as error:
            self._report(display(shown), _text(error))
            return None
        assert folder.paths is not None
        folder.paths[name] = (path, shown)
        folder.places[name] = place
        if self._options.with_atime:
            folder.atimes[name] = divmod(st.st_atime_ns, 10**9)
        return self._locator.stable(pack_stat(st))

    def _beside(self, shown: bytes) -> bytes:
        """The folder in which a target stands, as it is opened."""
        return self._locator.opened(os.path.dirname(shown))

    def _leaves_out(self, shown: bytes, st: os.stat_result) -> bool:
        if (st.st_dev, st.st_ino) in self._options.own or stat.S_ISSOCK(st.st_mode):
            return True
        is_directory = stat.S_ISDIR(st.st_mode)
        limit = self._excluder.larger_than
        if limit is not None and st.st_size > limit and not is_directory:
            return True
        allowed = self._allowed_device(shown)
        if allowed is None or self._locator.device(st.st_dev) == allowed:
            return False
        return not is_directory or self._locator.device(os.lstat(self._beside(shown)).st_dev) != allowed

    # --- devices

    def _target_devices(self, targets: list[bytes]) -> dict[bytes, int]:
        """The device of each target, and of what is mapped, by absolute path."""
        found = {}
        for target in [*targets, *self._locator.places()]:
            try:
                device = os.lstat(self._locator.opened(target)).st_dev
            except OSError:
                continue  # vanished just now: laying it out reports it
            found[self._locator.shown(target)] = self._locator.device(device)
        return found

    def _allowed_device(self, shown: bytes) -> int | None:
        """The device of the nearest target at or above a path."""
        path = shown
        while path not in self._devices:
            above = os.path.dirname(path)
            if above == path:
                return None
            path = above
        return self._devices[path]


def _is_same(shown: bytes, st: os.stat_result, *, follow: bool) -> bool:
    """Does the cleaned path name the same file? Behind a link, ``link/..`` does not."""
    try:
        return os.path.samestat(os.stat(shown, follow_symlinks=follow), st)
    except OSError:
        return False


def _why(path: bytes) -> str:
    """Why an entry that is listed has no usable stat record."""
    try:
        os.lstat(path)
    except OSError as error:
        return _text(error)
    return "is of a type that cannot be archived"


def _text(error: OSError) -> str:
    return error.strerror or str(error)
