"""What a run of ``cdr receive`` did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class ReceiveResult:
    """The summary of ``cdr receive``; ``rejected`` counts segments, ``inboxes_failed`` those that
    were left out. ``bytes_out``: sealed bytes that were spooled upward, ``versions_forwarded`` whose records
    are among them. ``waiting``: why it ended before all was taken."""

    versions_stored: int = 0
    versions_forwarded: int = 0
    blobs_new: int = 0
    blobs_duplicate: int = 0
    blobs_missing: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    segments: int = 0
    segments_landed: int = 0
    bytes_landed: int = 0
    """Taken from inboxes, to be reduced later."""
    rejected: int = 0
    inboxes_failed: int = 0
    snapshots: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def add(self, other: ReceiveResult) -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
