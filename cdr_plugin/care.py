"""What an operator asks of a repository format besides backing up and restoring: the optional part of the contracts.

``contracts.Repository.care`` hands it out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cdr_plugin.model.versions import Snapshot


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """``subset`` chooses packs, in restic's forms: ``n/t``, ``10%`` or ``500M``; empty: all."""

    read_data: bool = False
    subset: str = ""
    check_unused: bool = False
    """Count blobs that no version reaches as errors."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check found: ``text`` says what and where, in one line.

    ``pack`` (hex), ``blobs`` (``data 0123...``, hex) and ``files`` (``1a2b3c4d:/path``) name what is
    hit, each as far as it is known.
    """

    text: str
    pack: str = ""
    blobs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(slots=True)
class CheckReport:
    """``errors`` mean lost or wrong data, ``hints`` only waste. Sizes in bytes."""

    errors: list[Finding] = field(default_factory=list)
    hints: list[Finding] = field(default_factory=list)
    broken_packs: list[str] = field(default_factory=list)
    suggest_repair_index: bool = False
    suggest_prune: bool = False
    versions: int = 0
    trees: int = 0
    blobs: int = 0
    packs: int = 0
    packs_read: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """restic's options of the same names. ``max_unused``: ``5%``, a size, or ``unlimited``."""

    max_unused: str = "5%"
    max_repack_size: int | None = None
    repack_cacheable_only: bool = False
    repack_small: bool = False
    repack_smaller_than: int | None = None
    repack_uncompressed: bool = False
    dry_run: bool = False


@dataclass(slots=True)
class PruneReport:
    """What pruning did, or would do. Sizes in bytes, of blobs with their seals and headers."""

    blobs_used: int = 0
    blobs_duplicate: int = 0
    blobs_unused: int = 0
    blobs_repacked: int = 0
    blobs_removed: int = 0
    blobs_left: int = 0
    bytes_used: int = 0
    bytes_duplicate: int = 0
    bytes_unused: int = 0
    bytes_repacked: int = 0
    bytes_removed: int = 0
    """Freed by removing packs and by repacking, unreferenced packs included."""
    bytes_unreferenced: int = 0
    """Of packs that no index lists."""
    bytes_left_unused: int = 0
    packs_kept: int = 0
    packs_repacked: int = 0
    packs_removed: int = 0
    packs_unreferenced: int = 0


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """One key of a repository; ``created`` is RFC 3339."""

    id: str
    current: bool
    user: str
    host: str
    created: str


@dataclass(frozen=True, slots=True)
class LockInfo:
    """Somebody who works on a repository, or was left from one who did. ``text`` says who, since when, and what
    to do about it, the advice behind the last ``;``."""

    id: str
    text: str
    exclusive: bool
    stale: bool


@dataclass(slots=True)
class RepairReport:
    """What a repair changed, one line each, and what it could not save."""

    done: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


class RepositoryCare(ABC):
    """What an operator does to a repository besides backing up and restoring.

    Each call takes the lock that it needs (LockedError) and gives it back. A crash in the middle
    of any of them leaves every version that was not to be removed as it was.
    """

    @abstractmethod
    def check(self, options: CheckOptions) -> CheckReport:
        """Findings are also reported one by one as they are found."""

    @abstractmethod
    def forget(self, ids: Sequence[str], prune: PruneOptions | None = None) -> PruneReport | None:
        """Remove versions by full ID, and prune under the same lock if asked to."""

    @abstractmethod
    def prune(self, options: PruneOptions, without: Sequence[str] = ()) -> PruneReport:
        """Remove what no version reaches. ``without``: with ``dry_run``, count these versions as
        removed."""

    @abstractmethod
    def replace_versions(self, changed: Mapping[str, Snapshot]) -> Mapping[str, str]:
        """Write each snapshot in place of the one with the given full ID; old IDs to new ones."""

    @abstractmethod
    def keys(self) -> Sequence[KeyInfo]:
        """All keys; the current one is that which opened the repository."""

    @abstractmethod
    def add_key(self, password: str, user: str = "", host: str = "") -> str:
        """A further password for the same repository; the ID of its key."""

    @abstractmethod
    def remove_key(self, id_: str) -> None:
        """``id_`` may be the start of one; UserError for the current key."""

    @abstractmethod
    def change_password(self, password: str) -> str:
        """A new key in place of the current one; its ID."""

    def locks(self) -> Sequence[LockInfo]:
        """Who holds it now; nothing where the format has no locks. Takes none itself."""
        return ()

    @abstractmethod
    def unlock(self, *, all_locks: bool = False) -> int:
        """Remove stale locks, or all; how many."""

    @abstractmethod
    def repair_index(self, *, read_all_packs: bool = False) -> RepairReport:
        """Make the index say what the packs hold."""

    @abstractmethod
    def repair_packs(self, ids: Sequence[str]) -> RepairReport:
        """Save what can be read of damaged packs, then remove them."""

    @abstractmethod
    def repair_versions(self, ids: Sequence[str], *, forget: bool, dry_run: bool) -> RepairReport:
        """Write versions anew without what is lost; empty ``ids`` means all."""
