"""Zstd frame to blob, for frames from anybody."""

from __future__ import annotations

import zstandard

from cdr_plugin.contracts import Decoder, FetchBlob
from cdr_plugin.errors import PayloadError
from cdr_plugin.model.blobs import Buffer

MAGIC = b"\x28\xb5\x2f\xfd"
"""A skippable frame begins otherwise, and the library would report it as an empty one."""

MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What every zstd decoder must grant (RFC 8878, 3.1.1.1.2), and restic's decoder does."""

SIZE_UNKNOWN = 2**64 - 1
"""How the library says that a frame does not tell its content size; small frames of restic do not."""


class ZstdDecoder(Decoder):
    """Takes exactly one frame that ends at the last byte and gives exactly ``length`` bytes.

    Allocates ``length`` bytes and at most ``MAX_WINDOW_BYTES`` besides.
    """

    def __init__(self) -> None:
        self._decompress = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES).decompress

    def decode(self, data: Buffer, length: int, fetch: FetchBlob) -> bytes:
        """The blob; PayloadError. An empty blob is never encoded, so length 0 is refused."""
        try:
            _check_header(data, length)
            blob = self._decompress(data, max_output_size=length, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise PayloadError(f"zstd payload of {len(data)} bytes: {error}") from None
        if len(blob) != length:
            raise PayloadError(f"zstd payload: {len(blob)} bytes where {length} were declared")
        return blob


def _check_header(data: Buffer, length: int) -> None:
    if length < 1 or bytes(data[:4]) != MAGIC:
        raise PayloadError(f"zstd payload of {len(data)} bytes for {length}: not a zstd frame of a blob")
    header = zstandard.get_frame_parameters(data)
    if header.content_size not in (length, SIZE_UNKNOWN):
        raise PayloadError(f"zstd payload: the frame declares {header.content_size} bytes, not {length}")
    if header.dict_id:
        raise PayloadError(f"zstd payload: the frame asks for dictionary {header.dict_id}")
    if header.window_size > MAX_WINDOW_BYTES:
        raise PayloadError(f"zstd payload: window of {header.window_size} bytes, beyond {MAX_WINDOW_BYTES}")
