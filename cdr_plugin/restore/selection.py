"""Which items of a version are restored: includes and excludes together."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cdr_plugin.patterns import Patterns
from cdr_plugin.restore.folders import Folder


class Selection:
    """Answers for items of one version; UserError for a malformed pattern."""

    def __init__(self, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = Patterns(include)
        self._exclude = Patterns(exclude)
        self._everything = not self._include and not self._exclude

    def wants(self, folder: Folder, name: bytes) -> tuple[bool, bool]:
        """(restore this item, look below it). The second matters for folders only: the parents
        of something included are restored along with it."""
        if self._everything:
            return True, True
        path = os.fsdecode(folder.path() + name)
        if self._exclude.match(path):
            return False, False
        if not self._include or self._include.match(path):
            return True, True
        return False, self._include.may_match_below(path)
