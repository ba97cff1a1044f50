"""Snapshots that have been read, in one sealed file of this machine: reading 10,000 of their own files takes a second.

::

    magic 8 bytes, then as a sealed file: zstd frame of the msgpack of {name: snapshot}

Files of snapshots are named by their hash and never change, so what is listed is what was read. A hint: what is not
there, or cannot be read, is read in the repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
import zstandard

from cdr_plugin.errors import CdrError
from cdr_plugin.model.versions import Snapshot, SnapshotSummary
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.frames import decompress_file

MAX_BYTES = 1 << 30
"""Plain; three million snapshots. More are read one by one."""
_FIELDS = repr((Snapshot.__struct_encode_fields__, SnapshotSummary.__struct_encode_fields__))
_MAGIC = sha256(_FIELDS.encode()).digest()[:8]
"""Of another program's snapshots we would lose fields that it does not know."""
_Snapshots = dict[str, Snapshot]
_decoder = msgspec.msgpack.Decoder(_Snapshots)


class SnapshotCache:
    """Of one repository; without a folder it remembers nothing. One process writes at a time."""

    def __init__(self, folder: Path | None, repository_id: str, key: KeyMaterial) -> None:
        self._path = folder / f"restic-{repository_id[:16]}.snapshots" if folder else None
        self._key = key

    def load(self) -> dict[str, Snapshot]:
        """By name, in the order in which they were saved; empty where there is nothing that can be read."""
        if self._path is None:
            return {}
        try:
            data = self._path.read_bytes()
            if not data.startswith(_MAGIC):
                return {}
            return _decoder.decode(decompress_file(memoryview(Sealer(self._key).open(data[len(_MAGIC) :])), MAX_BYTES))
        except (OSError, CdrError, msgspec.DecodeError):
            return {}

    def save(self, snapshots: Mapping[str, Snapshot]) -> None:
        """In place of what was there. Not durable, and no error: it may be lost."""
        if self._path is None:
            return
        plaintext = zstandard.ZstdCompressor(level=1).compress(msgspec.msgpack.encode(snapshots))
        temporary = self._path.with_suffix(".snapshots-new")
        with suppress(OSError):
            temporary.write_bytes(_MAGIC + Sealer(self._key).seal(plaintext))
            temporary.replace(self._path)
