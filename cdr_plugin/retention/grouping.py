"""Versions that belong together: restic's ``--group-by``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.retention.tags import user_tags

_CRITERIA = {"host": "host", "hosts": "host", "path": "paths", "paths": "paths", "tag": "tags", "tags": "tags"}


class GroupKey(NamedTuple):
    """What the versions of a group share; empty where it is no criterion. Sorts like its text."""

    hostname: str
    paths: tuple[str, ...]
    tags: tuple[str, ...]

    def __str__(self) -> str:
        """For people: ``host a, paths [/b]``; empty for the one group of everything."""
        parts = [f"host {self.hostname}"] if self.hostname else []
        lists = (("paths", self.paths), ("tags", self.tags))
        parts += [f"{name} [{', '.join(words)}]" for name, words in lists if words]
        return ", ".join(parts)

    def as_json(self) -> dict[str, Any]:
        """restic's ``group_key``."""
        return {"hostname": self.hostname, "paths": list(self.paths) or None, "tags": list(self.tags) or None}


@dataclass(frozen=True, slots=True)
class GroupBy:
    """By what to group; all false: one group."""

    host: bool = False
    paths: bool = False
    tags: bool = False

    def key(self, snapshot: Snapshot) -> GroupKey:
        """Lists in any order are the same list."""
        return GroupKey(
            snapshot.hostname if self.host else "",
            tuple(sorted(snapshot.paths)) if self.paths else (),
            tuple(sorted(user_tags(snapshot))) if self.tags else (),
        )

    def groups(self, versions: Iterable[StoredVersion]) -> list[tuple[GroupKey, list[StoredVersion]]]:
        """Ascending by key; the versions of each in the order in which they came."""
        found: dict[GroupKey, list[StoredVersion]] = {}
        for version in versions:
            found.setdefault(self.key(version.snapshot), []).append(version)
        return sorted(found.items())


HOST_AND_PATHS = GroupBy(host=True, paths=True)
"""restic's default for forget."""


def parse_group_by(text: str) -> GroupBy:
    """``host,paths,tags`` or some of them, or nothing; UserError."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    unknown = next((word for word in words if word not in _CRITERIA), None)
    if unknown is not None:
        raise UserError(f"--group-by {text!r}: {unknown!r} is no criterion; choose from host, paths, tags")
    chosen = {_CRITERIA[word] for word in words}
    return GroupBy("host" in chosen, "paths" in chosen, "tags" in chosen)
