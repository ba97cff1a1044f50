"""Folders in memory: kill -9 does not ask for a disk, and thousands of fsyncs take minutes on one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """A new folder, on disk only where there is no such place; removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="cdr-test-", dir=_MEMORY if _MEMORY.is_dir() else None))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
