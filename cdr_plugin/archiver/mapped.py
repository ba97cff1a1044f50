"""Where paths of the snapshot are found: relative ones in a working directory, mapped ones elsewhere.

A file system that is snapshot for a backup is mounted in another place and under another device number
each time. What is *shown* (tree layout, patterns, messages, catalog) is the path that users know; what is
*opened* is where it is now; and the device is known by one number for ever.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct

from cdr_plugin.archiver.stats import SIZE, devices
from cdr_plugin.errors import UserError

_DEVICE = Struct("<Q")
_DEVICE_AT = 16

_BEYOND = 1 << 52
"""Device numbers of Linux have 32 bits. What a stranger's number is moved to when it is one of ours."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """What is at ``now`` is archived as ``shown``, both absolute and clean, and its file system is
    known as ``device``."""

    now: bytes
    shown: bytes
    device: int


def clean(path: bytes) -> bytes:
    """Go's ``filepath.Clean``: purely lexical, no doubled slashes."""
    cleaned = os.path.normpath(path)
    return cleaned[1:] if cleaned.startswith(b"//") else cleaned


def absolute(path: bytes, cwd: bytes) -> bytes:
    return clean(os.path.join(cwd, path))


def is_below(path: bytes, folder: bytes) -> bool:
    """Is ``path`` the folder or in it?"""
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


class Locator:
    """Finds what paths name. Targets are spelled as typed, relative ones against ``cwd``."""

    def __init__(self, cwd: bytes, mapped: Sequence[Mapped] = ()) -> None:
        self._cwd = cwd
        self._mapped = sorted(mapped, key=lambda one: len(one.shown), reverse=True)
        self._grafts: dict[bytes, dict[bytes, bytes]] = {}
        for one in mapped:
            folder, name = os.path.split(one.shown)
            if name:
                self._grafts.setdefault(folder, {})[name] = one.now
        self._devices: dict[int, int] = {}

    def use_for(self, targets: Iterable[bytes]) -> None:
        """Leave out of the map what no target concerns; UserError when the rest of it is not there."""
        shown = [self.shown(target) for target in targets]
        self._mapped = [
            one for one in self._mapped if any(is_below(path, one.shown) or is_below(one.shown, path) for path in shown)
        ]
        for one in sorted(self._mapped, key=lambda one: one.shown):
            try:
                self._devices.setdefault(os.lstat(one.now).st_dev, one.device)
            except OSError as error:
                raise UserError(
                    f"{os.fsdecode(one.now)}, which source.map has in place of {os.fsdecode(one.shown)}: "
                    f"{error.strerror}; no version was made. Is the snapshot mounted?"
                ) from None
        self._keep_devices_apart()

    def _keep_devices_apart(self) -> None:
        """The file system that is mounted at a shown path is the mapped one too; any other that happens to
        bear a number of ours must not: restoring would link its files to ours of the same inode."""
        for one in self._mapped:
            try:
                self._devices.setdefault(os.lstat(one.shown).st_dev, one.device)
            except OSError:
                continue  # nothing is there: only the snapshot is
        for device in set(self._devices.values()) - self._devices.keys():
            self._devices[device] = device | _BEYOND

    def places(self) -> list[bytes]:
        """The paths under which something is shown that is elsewhere."""
        return [one.shown for one in self._mapped]

    def shown(self, typed: bytes) -> bytes:
        """The absolute path that patterns, messages and the catalog use."""
        return absolute(typed, self._cwd)

    def mapped(self, shown: bytes) -> bytes | None:
        """Where a shown path is to be opened, if anywhere else."""
        for one in self._mapped:
            if is_below(shown, one.shown):
                rest = shown[len(one.shown) :].lstrip(b"/")
                return os.path.join(one.now, rest) if rest else one.now
        return None

    def opened(self, typed: bytes) -> bytes:
        """The path under which a target is opened."""
        found = self.mapped(self.shown(typed)) if self._mapped else None
        return os.path.join(self._cwd, typed) if found is None else found

    def names(self, typed: bytes) -> list[bytes]:
        """The entries of a folder in ascending order, with those that the map adds; OSError."""
        return sorted({*os.listdir(self.opened(typed)), *self.grafts(self.shown(typed))})

    def grafts(self, shown: bytes) -> dict[bytes, bytes]:
        """Entries of a folder that are found elsewhere: name -> where to open it."""
        return self._grafts.get(shown, {}) if self._mapped else {}

    def device(self, device: int) -> int:
        """The number by which a device is known."""
        return self._devices.get(device, device)

    def stable(self, stats: bytes) -> bytes:
        """Stat records with the numbers by which their devices are known."""
        if not self._devices:
            return stats
        found = devices(stats)
        if self._devices.keys().isdisjoint(found):
            return stats
        changed = bytearray(stats)
        for i, device in enumerate(found):
            _DEVICE.pack_into(changed, SIZE * i + _DEVICE_AT, self.device(device))
        return bytes(changed)
