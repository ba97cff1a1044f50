"""Whole numbers in as few bytes as they need: seven bits each, the lowest first, the top bit says "more"."""

from __future__ import annotations

from cdr_plugin.errors import PayloadError
from cdr_plugin.model.blobs import Buffer


def write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def read_varint(data: Buffer, at: int, most: int) -> tuple[int, int]:
    """The number at ``at``, and where the next byte is; PayloadError at the end of the data, for numbers
    above ``most`` and for those that are longer than they need be."""
    value = shift = 0
    while at < len(data) and value <= most:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > most or (byte == 0 and shift):
                break
            return value, at
        shift += 7
        if shift > most.bit_length():
            break
    raise PayloadError(f"delta payload: no number up to {most} where one must be")


def to_unsigned(value: int) -> int:
    """Zigzag: numbers near 0 of either sign become small ones."""
    return value << 1 if value >= 0 else (-value << 1) - 1


def to_signed(value: int) -> int:
    return -((value + 1) >> 1) if value & 1 else value >> 1
