"""How a blob is stored: compressed or not, by our compressor or as it came."""

from __future__ import annotations

import zstandard

from cdr_plugin.errors import ConfigError
from cdr_plugin.model.blobs import BlobType, Buffer, Payload
from cdr_restic.frames import frame_problem

ZSTD = "zstd/1"
_LEVELS = {"fastest": 1, "auto": 3, "better": 7, "max": 11}
"""restic's modes; all windows at these levels are at most 4 MiB."""


def check_compression(mode: str) -> None:
    if mode not in _LEVELS and mode != "off":
        raise ConfigError(f"compression {mode!r}: choose one of off, {', '.join(_LEVELS)}")


class BlobEncoder:
    """One per thread. Version 1 never compresses; version 2 always compresses trees, and data
    unless the mode is ``off``. Empty blobs stay as they are: 0 marks "not compressed"."""

    def __init__(self, version: int, mode: str) -> None:
        self._compresses = version >= 2
        self._compresses_data = mode != "off"
        self._compressor = zstandard.ZstdCompressor(level=_LEVELS.get(mode, _LEVELS["auto"]))

    def encode(self, type_: BlobType, data: bytes, payload: Payload | None) -> tuple[Buffer, int]:
        """What to seal, and the plaintext's length if that is compressed, else 0."""
        length = len(data)
        if not self._compresses or not length:
            return data, 0
        if (
            payload is not None
            and payload.method == ZSTD
            and payload.length == length
            and frame_problem(payload.data, length) is None
        ):
            return payload.data, length
        if type_ is BlobType.DATA and not self._compresses_data:
            return data, 0
        return self._compressor.compress(data), length
