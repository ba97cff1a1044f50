"""The literals of a payload: zstd frames without magic number, content size or checksum.

All frames but the last hold ``FRAME_BYTES`` of literals and stand behind their encoded length; the last takes the
rest of the payload. So a decoder needs no more than ``FRAME_BYTES`` beside the blob. The context, old bytes
that stand opposite to the literals, is what zstd calls a raw dictionary, of every frame.
"""

from __future__ import annotations

import zstandard

from cdr_plugin.errors import PayloadError
from cdr_plugin.model.blobs import Buffer

from .varint import read_varint, write_varint

FRAME_BYTES = 4 * 1024 * 1024
MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""What every zstd decoder must grant (RFC 8878, 3.1.1.1.2)."""

_MIN_WINDOW_LOG = 10
_MAX_WINDOW_LOG = 23
_MAX_FRAME_BYTES = 2 * FRAME_BYTES
_SIZE_UNKNOWN = 2**64 - 1
"""How the library says that a frame does not declare its content size."""
_FORMAT = zstandard.FORMAT_ZSTD1_MAGICLESS


def compress_literals(literals: Buffer, context: bytes, level: int) -> bytes:
    """All frames; nothing for no literals."""
    if not literals:
        return b""
    reach = len(context) + min(len(literals), FRAME_BYTES)
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level,
        source_size=min(len(literals), FRAME_BYTES),
        dict_size=len(context),
        # The levels' own, 2 MiB at level 3, would leave much of a long context out of reach.
        window_log=min(max(reach.bit_length(), _MIN_WINDOW_LOG), _MAX_WINDOW_LOG),
        format=_FORMAT,
        write_content_size=False,
        write_dict_id=False,
    )
    compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(context))
    view = memoryview(literals)
    out = bytearray()
    for at in range(0, len(view), FRAME_BYTES):
        frame = compressor.compress(view[at : at + FRAME_BYTES])
        if at + FRAME_BYTES < len(view):
            write_varint(out, len(frame))
        out += frame
    return bytes(out)


class LiteralReader:
    """Gives the literals of a payload in order; PayloadError for all that is not exactly them."""

    def __init__(self, data: Buffer, at: int, total: int, context: bytes) -> None:
        self._data = memoryview(data)
        self._at = at
        self._left = total
        self._ready = memoryview(b"")
        self._decompress = zstandard.ZstdDecompressor(
            dict_data=_dictionary(context), max_window_size=MAX_WINDOW_BYTES, format=_FORMAT
        ).decompress

    def read(self, length: int) -> memoryview:
        """The next bytes, 1 to ``length``."""
        if not self._ready:
            self._ready = memoryview(self._next_frame())
        part, self._ready = self._ready[:length], self._ready[length:]
        return part

    def finish(self) -> None:
        """All was read; PayloadError if there is more."""
        if self._at != len(self._data):
            raise PayloadError(f"delta payload: {len(self._data) - self._at} bytes behind its end")

    def _next_frame(self) -> bytes:
        size = min(self._left, FRAME_BYTES)
        end = len(self._data)
        if self._left > FRAME_BYTES:
            frame_bytes, self._at = read_varint(self._data, self._at, _MAX_FRAME_BYTES)
            end = min(self._at + frame_bytes, end)
        frame, self._at = self._data[self._at : end], end
        self._left -= size
        try:
            _check_header(frame)
            literals = self._decompress(frame, max_output_size=size, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise PayloadError(f"delta payload: literals of {size} bytes: {error}") from None
        if len(literals) != size:
            raise PayloadError(f"delta payload: {len(literals)} bytes of literals where {size} belong")
        return literals


def _check_header(frame: memoryview) -> None:
    """PayloadError unless the frame leaves sizes to the payload: the library allocates what a frame declares."""
    header = zstandard.get_frame_parameters(frame, _FORMAT)
    foreign = header.content_size != _SIZE_UNKNOWN or header.dict_id or header.has_checksum
    if foreign or header.window_size > MAX_WINDOW_BYTES:
        raise PayloadError("delta payload: literals in a frame of another kind")


def _dictionary(context: bytes) -> zstandard.ZstdCompressionDict | None:
    if not context:
        return None
    return zstandard.ZstdCompressionDict(context, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
