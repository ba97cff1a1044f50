"""What a restore is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Overwrite(StrEnum):
    """What happens to an existing file, link or special file where one is to be restored.

    Folders are always merged. A folder is never replaced by something else, nor the reverse.
    """

    ALWAYS = "always"
    IF_CHANGED = "if-changed"
    """Content that equals the version's stays (same size and time, else same hashes)."""
    IF_NEWER = "if-newer"
    """Replaced only when the version's is newer than the existing one."""
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """``target`` is created when missing. Patterns have restic's meaning and see paths as the
    version holds them (``/home/me/file``); what both include and exclude is excluded."""

    target: Path
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    overwrite: Overwrite = Overwrite.NEVER
    verify: bool = False
    """Read every file back and compare its hashes before it takes its name."""
    sparse: bool = True
    """Leave holes where a blob begins, ends or consists of zeros."""


@dataclass(slots=True)
class RestoreSummary:
    """restic's restore summary. ``*_files`` count folders, links and special files too; ``errors``
    is how many items were not, or not wholly, restored."""

    total_files: int = 0
    files_restored: int = 0
    files_skipped: int = 0
    files_deleted: int = 0
    total_bytes: int = 0
    bytes_restored: int = 0
    bytes_skipped: int = 0
    seconds_elapsed: float = 0.0
    errors: int = 0
