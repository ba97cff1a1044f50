"""The folders above versions, as ``restic mount`` lays them out.

::

    ids/1a2b3c4d/                     snapshots/2024-05-31T14:30:00Z/     snapshots/latest -> ...
    hosts/alice/2024-05-31T14:30:00Z/ hosts/alice/latest -> ...
    tags/daily/2024-05-31T14:30:00Z/  tags/daily/latest -> ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from cdr_plugin.contracts import StoredVersion

_FRACTION = re.compile(r"\.\d+")


class Directory:
    """One of these folders: names of what is in it, in the order in which it was added."""

    __slots__ = ("entries", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.entries: dict[str, Entry] = {}

    def folder(self, name: str) -> Directory:
        found = self.entries.get(name)
        if not isinstance(found, Directory):
            found = self.entries[name] = Directory(f"{self.path.rstrip('/')}/{name}")
        return found

    def add(self, name: str, version: StoredVersion) -> str:
        """The name under which the version now stands: with a number where the other is taken."""
        unique, number = name, 0
        while unique in self.entries:
            number += 1
            unique = f"{name}-{number}"
        self.entries[unique] = version
        return unique


class Latest:
    """The link ``latest`` beside versions."""

    __slots__ = ("target", "version")

    def __init__(self, target: str, version: StoredVersion) -> None:
        self.target = target
        self.version = version


Entry: TypeAlias = Directory | Latest | StoredVersion


def lay_out(versions: Iterable[StoredVersion]) -> Directory:
    """The root; ``versions`` come oldest first."""
    root = Directory("/")
    for name in ("ids", "snapshots", "hosts", "tags"):
        root.folder(name)
    latest: dict[str, tuple[Directory, Latest]] = {}
    for version in versions:
        root.folder("ids").add(version.id[:8], version)
        time = _FRACTION.sub("", version.snapshot.time)
        for folder in _folders(root, version):
            latest[folder.path] = folder, Latest(folder.add(time, version), version)
    for folder, link in latest.values():
        folder.entries["latest"] = link
    return root


def _folders(root: Directory, version: StoredVersion) -> Iterator[Directory]:
    yield root.folder("snapshots")
    if version.snapshot.hostname:
        yield root.folder("hosts").folder(file_name(version.snapshot.hostname))
    for tag in dict.fromkeys(version.snapshot.tags):
        yield root.folder("tags").folder(file_name(tag))


def file_name(text: str) -> str:
    """``text``, which may be anything, as the name of a folder."""
    if text in ("", ".", ".."):
        return "_" * max(len(text), 1)
    return text.replace("/", "_").replace("\0", "_")
