"""What a restore is asked to do, and what it answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Overwrite(StrEnum):
    """What happens to an existing file, link or special file where one is to be restored.

    Folders are always merged. A folder is replaced by something else, and the reverse, only by a
    restore that deletes.
    """

    ALWAYS = "always"
    """Content that equals the version's stays (same hashes); all else is replaced."""
    IF_CHANGED = "if-changed"
    """The same, but a file of the same size and time is taken to be equal."""
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
    include_ignoring_case: Sequence[str] = ()
    exclude_ignoring_case: Sequence[str] = ()
    overwrite: Overwrite = Overwrite.NEVER
    delete: bool = False
    """Remove what the folders that are restored hold beside what the version lists there; never
    what an exclude matches or the includes leave out."""
    protect: Sequence[Path] = ()
    """Folders of this machine that ``delete`` must leave alone, such as the repository's."""
    verify: bool = False
    """Read every file back and compare its hashes before it takes its name."""
    sparse: bool = True
    """Leave holes where a blob begins, ends or consists of zeros."""
    dry_run: bool = False
    """Look at everything and count, but change nothing."""
    ownership_by_name: bool = False
    """Owners by the names that the version holds, where this machine knows them."""
    include_attributes: Sequence[str] = ()
    exclude_attributes: Sequence[str] = ()
    """Patterns for names of extended attributes; at most one of the two. Without any, all are restored."""
    report_items: bool = False
    """Tell the reporter of every item, as ``item``."""


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
