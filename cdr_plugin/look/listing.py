"""Which part of a version ``ls`` shows: everything, or some folders with or without what is below."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import UserError
from cdr_plugin.look.walk import Report, Walk
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.trees import Node


def listed(
    reader: RepositoryReader, root: BlobId, report: Report, folders: Sequence[str] = (), *, recursive: bool = False
) -> Iterator[tuple[str, Node]]:
    """The nodes below ``root`` that are in ``folders``, absolute paths; all of them when there are none.

    As restic does: of each folder itself and its entries, with ``recursive`` everything below.
    UserError for a path that is not absolute; errors as those of ``Walk``.
    """
    wanted = [_cleaned(folder) for folder in folders]

    def is_inside(path: str) -> bool:
        return not wanted or any(_has_prefix(path, folder) for folder in wanted)

    def enters(path: str, node: Node) -> bool:
        on_the_way = any(_has_prefix(folder, path) for folder in wanted)
        return not wanted or on_the_way or (recursive and is_inside(path))

    for path, node in Walk(reader, root, report, enters=enters):
        if is_inside(path):
            yield path, node


def _cleaned(folder: str) -> str:
    if not folder.startswith("/"):
        raise UserError(f"folder {folder!r}: paths inside a version are absolute; begin it with a slash")
    return "/" + "/".join(part for part in folder.split("/") if part not in ("", "."))


def _has_prefix(path: str, folder: str) -> bool:
    """Is ``path`` the folder itself, or inside it?"""
    return path == folder or folder == "/" or path.startswith(folder + "/")
