"""Which items of a version are restored, and which extra ones may be deleted: includes and excludes together."""

from __future__ import annotations

import os
from collections.abc import Sequence

from cdr_plugin.patterns import Patterns
from cdr_plugin.restore.folders import Folder
from cdr_plugin.restore.options import RestoreOptions


class Selection:
    """Answers for items of one version; UserError for a malformed pattern."""

    def __init__(self, options: RestoreOptions) -> None:
        self._include = _lists(options.include, options.include_ignoring_case)
        self._exclude = _lists(options.exclude, options.exclude_ignoring_case)
        self.everything = not self._include and not self._exclude

    def wants(self, folder: Folder, name: bytes) -> tuple[bool, bool]:
        """(restore this item, look below it). The second matters for folders only: the parents
        of something included are restored along with it."""
        if self.everything:
            return True, True
        path = os.fsdecode(folder.path() + name)
        if any(patterns.match(path) for patterns in self._exclude):
            return False, False
        if not self._include or any(patterns.match(path) for patterns in self._include):
            return True, True
        return False, any(patterns.may_match_below(path) for patterns in self._include)


def _lists(patterns: Sequence[str], ignoring_case: Sequence[str]) -> list[Patterns]:
    lists = [Patterns(patterns), Patterns(ignoring_case, ignore_case=True)]
    return [patterns for patterns in lists if patterns]
