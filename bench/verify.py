"""A benchmark of a wrong result is worth nothing: compares a restored folder with its source."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from bench.measure import BenchError

BLOCK = 1 << 20


def relative_files(root: Path) -> set[str]:
    """Names of the regular files below, relative to ``root``."""
    return set(_walk(root))


def _walk(root: Path) -> Iterator[str]:
    for parent, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(parent, name), root)


def same_content(one: Path, other: Path) -> bool:
    """Equal sizes, modification times and bytes."""
    facts, others = one.stat(), other.stat()
    if (facts.st_size, facts.st_mtime_ns) != (others.st_size, others.st_mtime_ns):
        return False
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        while block := left.read(BLOCK):
            if block != right.read(BLOCK):
                return False
    return True


def require_equal(source: Path, restored: Path) -> None:
    """Raises BenchError that names the first file which differs, is missing or is too many."""
    wanted, found = relative_files(source), relative_files(restored)
    if wanted != found:
        name = min(wanted ^ found)
        raise BenchError(f"{restored}: {name} is {'missing' if name in wanted else 'not in the source'}")
    for name in sorted(wanted):
        if not same_content(source / name, restored / name):
            raise BenchError(f"{restored / name} differs from {source / name}")
