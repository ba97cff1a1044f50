"""Opens blobs of packs: seal, compression, SHA-256."""

from __future__ import annotations

from hashlib import sha256

import zstandard

from cdr_plugin.errors import FormatError, IntegrityError
from cdr_plugin.model.blobs import MAX_TREE_BLOB_BYTES, BlobType, Buffer
from cdr_restic.crypto import OVERHEAD, KeyMaterial, Sealer
from cdr_restic.frames import decompress_blob

MAX_BLOB_BYTES = {BlobType.DATA: 512 * 1024 * 1024, BlobType.TREE: MAX_TREE_BLOB_BYTES}
"""Of plaintext. restic cuts data at 8 MiB; other programs' chunkers may be set to more."""


class BlobOpener:
    """One per thread."""

    def __init__(self, key: KeyMaterial) -> None:
        self._sealer = Sealer(key)
        self._decompressor = zstandard.ZstdDecompressor()

    @property
    def sealer(self) -> Sealer:
        return self._sealer

    def open(self, type_: BlobType, id_: bytes, sealed: Buffer, plain: int) -> bytes:
        """The verified plaintext; ``plain`` is its length if it is compressed, else 0.
        IntegrityError, before anything is allocated that exceeds the limit of the type."""
        if max(plain, len(sealed) - OVERHEAD) > MAX_BLOB_BYTES[type_]:
            raise FormatError(f"larger than any {type_.name.lower()} blob may be")
        if plain:
            data = decompress_blob(self._decompressor, self._sealer.open_scratch(sealed), plain)
        else:
            data = self._sealer.open(sealed)
        if sha256(data).digest() != id_:
            raise IntegrityError("its SHA-256 differs from its ID")
        return data
