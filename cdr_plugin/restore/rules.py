"""Which of a node's metadata is restored: whose numbers own a file, and which extended attributes it gets."""

from __future__ import annotations

import grp
import pwd
from functools import lru_cache

from cdr_plugin.errors import UserError
from cdr_plugin.model.trees import Node
from cdr_plugin.patterns import Patterns
from cdr_plugin.restore.options import RestoreOptions


class MetadataRules:
    """Answers for all nodes of a restore; UserError for malformed or contradicting patterns."""

    def __init__(self, options: RestoreOptions) -> None:
        if options.include_attributes and options.exclude_attributes:
            raise UserError("extended attributes can be included or excluded, not both: drop one of the two options")
        self.by_name = options.ownership_by_name
        self._include = Patterns(options.include_attributes)
        self._exclude = Patterns(options.exclude_attributes)

    def wants(self, attribute: str) -> bool:
        """Is this extended attribute restored?"""
        if self._include:
            return self._include.match(f"/{attribute}")
        return not self._exclude or not self._exclude.match(f"/{attribute}")

    def owner(self, node: Node) -> tuple[int, int]:
        """User and group by name; by number where the name is empty or unknown here."""
        uid, gid = _user(node.user), _group(node.group)
        return node.uid if uid is None else uid, node.gid if gid is None else gid


@lru_cache(maxsize=4096)
def _user(name: str) -> int | None:
    try:
        return pwd.getpwnam(name).pw_uid if name else None
    except (KeyError, ValueError):
        return None


@lru_cache(maxsize=4096)
def _group(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid if name else None
    except (KeyError, ValueError):
        return None
