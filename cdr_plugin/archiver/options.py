"""What an archive run is asked for, what it hands out, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cdr_plugin.archiver.exclude import ExcludeRules
from cdr_plugin.archiver.mapped import Mapped
from cdr_plugin.archiver.origin import NewBlob
from cdr_plugin.model.blobs import BlobId, BlobType

if TYPE_CHECKING:
    from cdr_plugin.archiver.stream import Stream


class BlobSink(Protocol):
    """Takes every blob that a run made anew; what it knows already is for the sink to find out."""

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        """Called from several threads at once, with the same blob possibly more than once.

        May block: the archiver then reads no further. Copies what it keeps. A CdrError ends the run.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveOptions:
    """What to archive, and how.

    ``paths`` are the targets as the user typed them, relative ones against ``cwd`` (default: the
    working directory); ``zone`` is the zone of all times in trees; ``own`` holds (device, inode)
    of files and folders that are never archived. ``ignore_inode`` also ignores ctime, as in restic.
    ``mapped`` says what is shown under another path than it is at; targets name the shown one.
    With a ``stream``, that is archived and nothing else.
    """

    paths: Sequence[bytes | str | Path] = ()
    zone: tzinfo
    exclude: ExcludeRules = field(default_factory=ExcludeRules)
    one_file_system: bool = False
    with_atime: bool = False
    ignore_ctime: bool = False
    ignore_inode: bool = False
    own: frozenset[tuple[int, int]] = frozenset()
    cwd: bytes | str | Path | None = None
    mapped: Sequence[Mapped] = ()
    stream: Stream | None = None


@dataclass(slots=True, kw_only=True)
class Counts:
    """Regular files and directories, counted as in restic's summary."""

    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    total_files_processed: int = 0
    total_bytes_processed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveResult:
    """A finished run: every blob below ``root_tree`` is with the sink or named by the old catalog.

    ``paths`` are the targets as restic's snapshot spells them, ``errors`` counts the items that were
    reported. Then the version is ``incomplete``, and the caller exits with 3.
    """

    root_tree: BlobId
    paths: list[str]
    counts: Counts
    errors: int

    @property
    def incomplete(self) -> bool:
        return self.errors > 0
