"""zstd frames: which ones may be stored as they came, and decoding within limits.

RFC 8878. A frame that decodes is not yet one that restic should keep: other readers must find
exactly one frame, no dictionary, and a window that fits their memory.
"""

from __future__ import annotations

import zstandard

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import Buffer

MAX_WINDOW_BYTES = 8 * 1024 * 1024
"""restic's own frames use 512 KiB; decoders are asked by the RFC to support 8 MiB."""
_MAX_BLOCK_BYTES = 128 * 1024
_MAGIC = b"\x28\xb5\x2f\xfd"
_PIECE_BYTES = 1024 * 1024


def frame_problem(frame: Buffer, length: int) -> str | None:
    """Why ``frame``, known to decode to ``length`` bytes, must not be stored; None when it may.

    Walks block headers, so costs a microsecond and as much again for each 128 KiB of plaintext.
    """
    size = len(frame)
    if size > length + length // 256 + 64:
        return "larger than the blob itself allows"
    if size < 9 or frame[:4] != _MAGIC:
        return "not a zstd frame"
    descriptor = frame[4]
    if descriptor & 0x08:
        return "reserved bit set"
    if descriptor & 0x03:
        return "needs a dictionary"
    single = descriptor & 0x20
    position = 5 if single else 6
    # The content size field has 0, 2, 4 or 8 bytes; a single segment has at least one.
    code = descriptor >> 6
    width = (1 << code) if code else (1 if single else 0)
    declared = int.from_bytes(frame[position : position + width], "little") + (256 if code == 1 else 0)
    if width and declared != length:
        return "declares another content size"
    window = declared if single else _window(frame[5])
    if window > MAX_WINDOW_BYTES:
        return "window too large"
    end = _walk_blocks(frame, position + width, min(window, _MAX_BLOCK_BYTES))
    if end < 0:
        return "damaged block"
    end += 4 if descriptor & 0x04 else 0
    if end != size:
        return "truncated" if end > size else "bytes after the frame"
    return None


def _window(descriptor: int) -> int:
    base = 1 << (10 + (descriptor >> 3))
    return base + (base >> 3) * (descriptor & 7)


def _walk_blocks(frame: Buffer, position: int, max_block: int) -> int:
    """The offset just behind the last block, perhaps beyond the end; -1 for an impossible block."""
    size = len(frame)
    while position + 3 <= size:
        header = frame[position] | frame[position + 1] << 8 | frame[position + 2] << 16
        kind, length = header >> 1 & 3, header >> 3
        if kind == 3 or length > max_block:
            return -1
        position += 4 if kind == 1 else 3 + length
        if header & 1:
            return position
    return size + 1


def decompress_blob(decompressor: zstandard.ZstdDecompressor, frame: Buffer, length: int) -> bytes:
    """The ``length`` bytes that ``frame`` holds, or FormatError; never allocates more.

    The caller has checked ``length``. Frames without a content size are usual: restic's encoder
    leaves it out below 256 bytes.
    """
    try:
        declared = zstandard.frame_content_size(frame)
        if declared not in (-1, length):
            raise FormatError(f"zstd frame declares {declared} bytes instead of {length}")
        data = decompressor.decompress(frame, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise FormatError(f"zstd frame does not decode: {error}") from None
    if len(data) != length:
        raise FormatError(f"zstd frame decodes to {len(data)} bytes instead of {length}")
    return data


def decompress_file(frame: Buffer, limit: int) -> bytes:
    """What ``frame`` holds, of unknown length up to ``limit`` bytes; FormatError beyond it."""
    pieces: list[bytes] = []
    total = 0
    try:
        with zstandard.ZstdDecompressor().stream_reader(frame) as reader:
            while piece := reader.read(_PIECE_BYTES):
                pieces.append(piece)
                total += len(piece)
                if total > limit:
                    raise FormatError(f"decompresses to more than {limit} bytes")
    except zstandard.ZstdError as error:
        raise FormatError(f"zstd frame does not decode: {error}") from None
    return b"".join(pieces)
