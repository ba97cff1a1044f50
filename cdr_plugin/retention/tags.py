"""restic's rules for lists of tags, with the tiers' own tags out of sight.

Every snapshot that a tier stored carries a tag of its own. If rules counted it, no such snapshot would
ever be untagged, and grouping by tags would put each of them in a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdr_plugin.model.versions import Snapshot

RESERVED = "cdr-"
"""What a tag of the tiers begins with; nobody else sets or removes such."""


def split_tags(text: str) -> tuple[str, ...]:
    """One list of tags as options spell it: separated by commas, spaces around them dropped."""
    return tuple(tag.strip() for tag in text.split(","))


def user_tags(snapshot: Snapshot) -> list[str]:
    return [tag for tag in snapshot.tags if not tag.startswith(RESERVED)]


def reserved_tags(snapshot: Snapshot) -> list[str]:
    return [tag for tag in snapshot.tags if tag.startswith(RESERVED)]


def has_tags(snapshot: Snapshot, wanted: Sequence[str]) -> bool:
    """Has the snapshot all these tags? An empty one matches a snapshot without tags, and ends the list."""
    for tag in wanted:
        if not tag and not user_tags(snapshot):
            return True
        if tag not in snapshot.tags:
            return False
    return True


def has_any_list(snapshot: Snapshot, lists: Iterable[Sequence[str]]) -> bool:
    """Has the snapshot all tags of one of the lists?"""
    return any(has_tags(snapshot, wanted) for wanted in lists)
