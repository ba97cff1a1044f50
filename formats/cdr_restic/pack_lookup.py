"""What one pack holds, for those who look for what a damaged or lost one hits."""

from __future__ import annotations

from collections.abc import Sequence

from cdr_plugin.errors import IntegrityError, NotFoundError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.index import MemoryIndex
from cdr_restic.packs import PackEntry, load_header
from cdr_restic.storage import FileKind, Storage


def blobs_of_pack(
    storage: Storage, key: KeyMaterial, index: MemoryIndex, prefix: str
) -> Sequence[tuple[BlobType, BlobId]]:
    """The blobs of the pack whose ID begins with ``prefix``, by its own header, which also names copies
    of blobs that are elsewhere too; by the index where the pack is lost or its header is damaged.

    UserError when no pack, or more than one, begins so.
    """
    names = {name for number in range(index.pack_count) if (name := index.pack_name(number)).startswith(prefix)}
    names.update(name for name in storage.list(FileKind.DATA) if name.startswith(prefix))
    if len(names) != 1:
        problem = "more than one pack begins so; give more digits" if names else "there is no such pack"
        raise UserError(f"pack {prefix!r}: {problem}; 'restic list packs' names them all")
    name = names.pop()
    return [(entry.type, BlobId(entry.id)) for entry in _entries(storage, key, index, name)]


def _entries(storage: Storage, key: KeyMaterial, index: MemoryIndex, name: str) -> Sequence[PackEntry]:
    try:
        size = storage.size(FileKind.DATA, name)
        return load_header(
            lambda offset, length: storage.load_part(FileKind.DATA, name, offset, length), size, Sealer(key)
        )
    except (NotFoundError, IntegrityError):
        number = index.pack_number(name)
        if number is None:  # in no index, so nothing but its header could tell
            raise
        return index.entries(number)
