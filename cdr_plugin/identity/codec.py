"""Small structures as msgpack maps, decoded strictly: one value has exactly one encoding.

Canonical means: keys in the order of the class, all of them, each once, shortest integers, no
extension types, nothing behind the end. The decoder proves it by encoding again and comparing,
so no field can hide from whoever signs, hashes or compares the bytes.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec

from cdr_plugin.errors import FormatError, UnknownVersionError
from cdr_plugin.model.blobs import Buffer

T = TypeVar("T")

Bytes16 = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Count = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A number of things, bytes or seconds; SQLite and JSON readers hold 63 bits."""
U32 = Annotated[int, msgspec.Meta(ge=0, le=(1 << 32) - 1)]
ShortText = Annotated[str, msgspec.Meta(max_length=255)]

_encoder = msgspec.msgpack.Encoder()


class WireStruct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all structures on the wire; fields are encoded in the order of their definition."""


@cache
def _decoder(type_: Any) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(type_)


def encode(value: Any, what: str) -> bytes:
    """The one encoding of ``value``; FormatError when a text is not Unicode or a number too big.

    Constructors check no types and limits, so a structure is decoded once before it leaves: what
    readers would refuse is not written.
    """
    try:
        encoded = _encoder.encode(value)
    except (UnicodeEncodeError, OverflowError, TypeError, RecursionError) as error:
        raise FormatError(f"{what}: cannot be encoded: {error}") from None
    if isinstance(value, msgspec.Struct):
        decode(type(value), encoded, what)
    return encoded


def decode(type_: type[T], data: Buffer, what: str) -> T:
    """A ``type_`` out of its one encoding, or FormatError."""
    try:
        key: Any = type_  # a class is hashable, but its metaclass does not say so
        value: T = _decoder(key).decode(data)
        canonical = _encoder.encode(value) == data
    except (msgspec.DecodeError, UnicodeError, OverflowError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{what}: {error}") from None
    if not canonical:
        raise FormatError(f"{what}: not in canonical form")
    return value


class _Formatted(msgspec.Struct):
    format: int


def check_format(data: Buffer, newest: int, what: str) -> None:
    """UnknownVersionError when a structure says that its ``format`` is a newer one; what says nothing sensible is
    for ``decode`` to refuse."""
    try:
        found = _decoder(_Formatted).decode(data).format
    except (msgspec.DecodeError, UnicodeError, OverflowError, ValueError, TypeError, RecursionError):
        return
    if found > newest:
        raise UnknownVersionError(f"{what}: format {found} is not known; left where it is, upgrade cdr")


def check_optional_hash(value: bytes, what: str) -> None:
    """FormatError unless ``value`` is empty or 32 bytes long."""
    if len(value) not in (0, 32):
        raise FormatError(f"{what} of {len(value)} bytes, expected 32 or none")
