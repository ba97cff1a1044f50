"""Files that wait for their content."""

from __future__ import annotations

from collections.abc import Sequence

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.restore.folders import Folder
from cdr_plugin.restore.metadata import Metadata


class PendingFile:
    """A file whose content is to be written. ``left`` counts the blobs that are missing; a file
    that is ``failed`` ignores what still comes for it, one that is ``done`` has its final name, one that
    ``existed`` takes the place of another."""

    __slots__ = ("done", "existed", "failed", "folder", "holes", "ids", "left", "metadata", "name", "size", "temporary")

    def __init__(self, folder: Folder, name: bytes, size: int, ids: Sequence[BlobId], metadata: Metadata) -> None:
        self.folder = folder
        self.name = name
        self.size = size
        self.ids = ids
        self.metadata = metadata
        self.left = len(ids)
        self.temporary = b""
        self.holes = False
        self.existed = False
        self.failed = False
        self.done = False


def wrong_size(file: PendingFile, size: int) -> FormatError:
    return FormatError(f"its blobs hold {size} bytes, but the tree says {file.size}; not restored")
