"""Sealed JSON files: config, index, snapshots and locks.

In version 2 the plaintext of all but the config is a byte 2 and a zstd frame; bare JSON is
accepted everywhere, as restic does.
"""

from __future__ import annotations

from hashlib import sha256

import zstandard

from cdr_plugin.errors import CdrError, FormatError, IntegrityError
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.frames import decompress_file
from cdr_restic.storage import MAX_FILE_BYTES, FileKind, Storage

_COMPRESSED = b"\x02"


class SealedFiles:
    """Loads and saves sealed files. May be used by several threads: it makes its ciphers anew."""

    def __init__(self, storage: Storage, key: KeyMaterial, version: int) -> None:
        self.storage = storage
        self.version = version
        self._key = key

    def seal(self, plaintext: bytes) -> tuple[str, bytes]:
        """Name and bytes of the file that holds ``plaintext``."""
        if self.version >= 2:
            plaintext = _COMPRESSED + zstandard.ZstdCompressor(level=3).compress(plaintext)
        sealed = Sealer(self._key).seal(plaintext)
        return sha256(sealed).hexdigest(), sealed

    def save(self, kind: FileKind, plaintext: bytes) -> str:
        """Store a file durably; its name."""
        name, sealed = self.seal(plaintext)
        self.storage.save(kind, name, sealed)
        return name

    def load(self, kind: FileKind, name: str) -> bytes:
        """The JSON of a file; IntegrityError that names the file, NotFoundError."""
        sealed = self.storage.load(kind, name)
        try:
            return decode_plaintext(Sealer(self._key).open(sealed))
        except IntegrityError as error:
            raise self.damaged(kind, name, error) from None

    def damaged(self, kind: FileKind, name: str, error: CdrError) -> IntegrityError:
        """``error`` of what a file holds, with the file's name."""
        return type_of(error)(f"{self.storage.describe(kind, name)} is damaged: {error}")


def type_of(error: CdrError) -> type[IntegrityError]:
    """The class of an integrity error, to raise it again with more words."""
    return type(error) if isinstance(error, IntegrityError) else IntegrityError


def decode_plaintext(plaintext: bytes) -> bytes:
    """JSON, decompressed if need be; FormatError."""
    first = plaintext[:1]
    if first == _COMPRESSED:
        return decompress_file(memoryview(plaintext)[1:], MAX_FILE_BYTES)
    if first in (b"{", b"["):
        return plaintext
    raise FormatError(f"starts with {first!r}, so is neither JSON nor compressed")
