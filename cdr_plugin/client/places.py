"""Where the files of a version are found on this machine: its targets as they were typed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import msgpack

from cdr_plugin.archiver import ArchiveOptions
from cdr_plugin.archiver.mapped import Locator, clean
from cdr_plugin.archiver.targets import Place, lay_out, working_directory

_ROOT = b"/"


@dataclass(frozen=True)
class Places:
    """Targets, the folder that relative ones start from, and what was found elsewhere: where it was then, and
    the path that it is known by."""

    cwd: bytes
    targets: Sequence[bytes]
    mapped: Sequence[tuple[bytes, bytes]] = ()

    @classmethod
    def of(cls, options: ArchiveOptions) -> Places:
        cwd = os.fsencode(options.cwd) if options.cwd is not None else working_directory()
        mapped = [(one.now, one.shown) for one in options.mapped]
        return cls(cwd, [os.fsencode(target) for target in options.paths], mapped)

    @classmethod
    def from_bytes(cls, data: bytes) -> Places:
        """What ``to_bytes`` gave; of nothing, as for a version that another machine made, the root."""
        if not data:
            return cls(_ROOT, [_ROOT])
        return cls(*msgpack.unpackb(data))

    def to_bytes(self) -> bytes:
        packed: bytes = msgpack.packb((self.cwd, list(self.targets), list(self.mapped)))
        return packed

    def find(self, folder: bytes, name: bytes) -> list[bytes]:
        """Paths where an entry of a folder of the version may be now, the likeliest first."""
        path = self._find(folder, name)
        if path is None:
            return []
        elsewhere = [now + path[len(shown) :] for now, shown in self.mapped if path.startswith(shown + b"/")]
        return [*elsewhere, path]

    def _find(self, folder: bytes, name: bytes) -> bytes | None:
        parts = [part for part in folder.split(b"/") if part] + [name]
        place = self._layout
        for at, part in enumerate(parts):
            below = place.children.get(part)
            if below is None:
                return None if place.path is None else os.path.join(self.cwd, place.path, *parts[at:])
            place = below
        return None if place.path is None else os.path.join(self.cwd, place.path)

    @cached_property
    def _layout(self) -> Place:
        if list(self.targets) == [_ROOT]:
            return Place(path=_ROOT)
        try:
            return lay_out([clean(target) for target in self.targets], Locator(self.cwd))
        except OSError:
            return Place()
