"""Which part of a version ``ls`` shows: everything, or some folders with or without what is below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdr_plugin.errors import UserError
from cdr_plugin.look.walk import Walk
from cdr_plugin.model.trees import Node


def listed(walk: Walk, folders: Sequence[str], *, recursive: bool) -> Iterator[tuple[str, Node]]:
    """The nodes of ``walk`` that are in ``folders``, absolute paths; all of them when there are none.

    As restic does: of each folder itself and its entries, with ``recursive`` everything below.
    UserError for a path that is not absolute.
    """
    wanted = [_cleaned(folder) for folder in folders]
    for path, node in walk:
        inside = not wanted or any(_has_prefix(path, folder) for folder in wanted)
        if inside:
            yield path, node
        if wanted and not (inside and recursive) and not any(_has_prefix(folder, path) for folder in wanted):
            walk.skip()


def _cleaned(folder: str) -> str:
    if not folder.startswith("/"):
        raise UserError(f"folder {folder!r}: paths inside a version are absolute; begin it with a slash")
    return "/" + "/".join(part for part in folder.split("/") if part not in ("", "."))


def _has_prefix(path: str, folder: str) -> bool:
    """Is ``path`` the folder itself, or inside it?"""
    return path == folder or folder == "/" or path.startswith(folder + "/")
