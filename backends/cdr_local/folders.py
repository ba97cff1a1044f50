"""Folders below a root, reached descriptor by descriptor.

Opening each component with ``O_NOFOLLOW`` relative to the one above means that nobody who may
write below the root can make us read or write outside it, at whatever moment a link is planted.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

MAKE_TRIES = 100
"""How often a folder may vanish under us (another process removes it because it is empty)
before we give up; each try loses only to another one's progress."""


@contextmanager
def opened(root: int, components: Sequence[str], *, create: bool = False) -> Iterator[list[int]]:
    """Descriptors of the root and of each folder below it, outermost first.

    OSError when one is missing (unless ``create``) or is no folder. ``root`` stays open.
    """
    chain = [root]
    try:
        for component in components:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(component, dir_fd=chain[-1])
            chain.append(os.open(component, _FOLDER, dir_fd=chain[-1]))
        yield chain
    finally:
        for descriptor in chain[1:]:
            os.close(descriptor)


def make_durable(chain: Sequence[int]) -> None:
    """The entries of all these folders survive a crash.

    All of them, not only new ones: a folder that another process has just made may not have
    reached the disk either. On unchanged folders fsync costs 1 to 2 microseconds (ext4).
    """
    for descriptor in reversed(chain):
        os.fsync(descriptor)


def prune(chain: Sequence[int], components: Sequence[str]) -> None:
    """Remove the folders of ``chain`` that are empty, innermost first; the root stays."""
    for parent, component in zip(reversed(chain[:-1]), reversed(components), strict=True):
        try:
            os.rmdir(component, dir_fd=parent)
        except OSError:  # not empty, or gone, or not ours: all the same here
            return


def open_root(path: Path, *, create: bool = False) -> int:
    """A descriptor of the folder ``path``; OSError. ``create`` makes it and what is above it."""
    if create:
        make_root(path)
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def make_root(path: Path) -> None:
    """Make a folder and its parents, each durable in the one above."""
    if path.is_dir():
        return
    make_root(path.parent)
    with suppress(FileExistsError):
        path.mkdir()
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
