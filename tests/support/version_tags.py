"""Whose versions the snapshots of a repository are."""

from __future__ import annotations

from collections.abc import Iterator

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.top.version_tags import VersionTag


def tags_of(version: StoredVersion, client: bytes) -> Iterator[VersionTag]:
    """The version tags of ``client`` that a snapshot carries: one, or none."""
    for text in version.snapshot.tags:
        tag = VersionTag.parse(text)
        if tag is not None and tag.client == client[:16]:
            yield tag
