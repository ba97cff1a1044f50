"""Splits text between lines and deflates it: a third party's reduction method, whole.

A blob ends behind a line whose CRC-32 has its low bits zero, so a line that is added or removed moves
no other cut. The same rule gives the same blobs on every client of a group.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from cdr_plugin.contracts import Decoder, Encoder, FetchBlob, ReductionMethod, Settings, Splitter, hookimpl
from cdr_plugin.errors import FormatError, PayloadError, UserError
from cdr_plugin.model.blobs import MAX_DATA_BLOB_BYTES, Buffer


class LineSplitter(Splitter):
    """Ends a blob behind a chosen line once it has ``min_size`` bytes, at ``max_size`` anyway."""

    def __init__(self, min_size: int, max_size: int, lines: int) -> None:
        self.min_size, self.max_size, self._lines = min_size, max_size, lines
        self.reset()

    def reset(self) -> None:
        self._length = 0  # of the blob so far
        self._crc = 0  # of the line so far

    def feed(self, data: Buffer) -> Sequence[int]:
        cuts: list[int] = []
        octets, position = bytes(data), 0
        while position < len(octets):
            newline = octets.find(b"\n", position, position + self.max_size - self._length)
            full = position + self.max_size - self._length
            end = newline + 1 if newline >= 0 else min(full, len(octets))
            self._crc = zlib.crc32(octets[position:end], self._crc)
            self._length += end - position
            position = end
            chosen = newline >= 0 and self._crc % self._lines == 0 and self._length >= self.min_size
            if chosen or self._length == self.max_size:
                cuts.append(end)
                self._length = 0
            if newline >= 0 or self._length == 0:
                self._crc = 0
        return cuts


class Deflate(Encoder):
    def __init__(self, level: int) -> None:
        self._level = level

    def encode(self, blob: Buffer) -> Buffer | None:
        packed = zlib.compress(blob, self._level)
        return packed if len(packed) < len(blob) else None


class Inflate(Decoder):
    def decode(self, data: Buffer, length: int, fetch: FetchBlob) -> bytes:
        stream = zlib.decompressobj()
        try:
            blob = stream.decompress(data, length + 1)  # never more than one byte too many
        except zlib.error as error:
            raise PayloadError(f"linesplit payload of {len(data)} bytes: {error}") from None
        if len(blob) != length or not stream.eof or stream.unused_data:
            raise PayloadError(f"linesplit payload of {len(data)} bytes: not one stream of {length} bytes")
        return blob


class LineSplit(ReductionMethod):
    name = "linesplit"

    def splitter(self, parameters: Settings) -> Splitter:
        sizes = [parameters.get(key) for key in ("min_size", "max_size", "lines")]
        match sizes:
            case [int(low), int(high), int(lines)] if 1 <= low <= high <= MAX_DATA_BLOB_BYTES and lines > 0:
                return LineSplitter(low, high, lines)
        raise FormatError(f"parameters of the splitter 'linesplit': {sizes} are no sizes and line count")

    def chunker_parameters(self, settings: Settings) -> Settings:
        return {"name": self.name, "min_size": 4096, "max_size": 1024 * 1024, "lines": 256}

    def encoder(self, settings: Settings) -> Encoder:
        level = settings.get("level", 6)
        if type(level) is not int or not 1 <= level <= 9:
            raise UserError(f"reduce.linesplit: level must be a whole number from 1 to 9, not {level!r}")
        return Deflate(level)

    def decoder(self) -> Decoder:
        return Inflate()


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return [LineSplit()]
