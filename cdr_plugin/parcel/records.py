"""Records: what a segment's plaintext is made of. A stream of flat msgpack arrays.

========  =============================================================================
kind      fields behind it
========  =============================================================================
0         preamble: format, version number, client, chunker ID, program version
1         payload: blob type, blob ID, method, plaintext length, data
2         first part of a payload: as 1, with the total of encoded bytes before data
3         further part: blob type, blob ID, sequence from 1, last, data
4         attestation: body, signature
5         version record: body, signature
6         introduction: body                                    (from record format 2 on)
========  =============================================================================

Each segment starts with a preamble; what follows a preamble belongs to the version it names. Clients write
format 1. Tiers that speak for several clients write format 2, in which preambles of different clients alternate,
each client's first one in a parcel being followed by its introduction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

import msgpack

from cdr_plugin.errors import FormatError, UnknownVersionError
from cdr_plugin.model.blobs import MAX_DATA_BLOB_BYTES, BlobId, BlobType, Buffer, Payload
from cdr_plugin.parcel.attestation import SignedAttestation
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.limits import (
    MAX_ATTESTATION_BYTES,
    MAX_METHOD_CHARS,
    MAX_PARTS,
    MAX_RECORD_FIELDS,
    MAX_SEGMENT_PLAINTEXT_BYTES,
    MAX_TEXT_CHARS,
    MAX_VERSION_RECORD_BYTES,
    PAYLOAD_SLACK_BYTES,
    max_blob_bytes,
    max_encoded_bytes,
)
from cdr_plugin.parcel.version import SignedVersionRecord

RECORD_FORMAT = 1
"""In every preamble of a client; a stream of an unknown format is refused before its records are read."""
TIER_RECORD_FORMAT = 2
"""In those of tiers that speak for several clients."""

PREAMBLE, PAYLOAD, FIRST_PART, PART, ATTESTATION, VERSION, INTRODUCTION = range(7)

_TYPES = (BlobType.DATA, BlobType.TREE)
_NIL = b"\xc0"


@dataclass(frozen=True, slots=True)
class Preamble:
    """Which version the records behind it belong to. ``client`` is a fingerprint, ``chunker`` the
    ID of the chunker parameters that made the blobs."""

    number: int
    client: bytes
    chunker: bytes
    program: str
    format: int = RECORD_FORMAT


@dataclass(frozen=True, slots=True)
class FirstPart:
    """The start of a payload that spans segments; ``total`` is the size of all its encoded bytes."""

    type: BlobType
    id: BlobId
    method: str
    length: int
    total: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Part:
    """More of the payload begun before; ``sequence`` counts from 1, ``last`` ends it."""

    type: BlobType
    id: BlobId
    sequence: int
    last: bool
    data: bytes


Record: TypeAlias = Preamble | Payload | FirstPart | Part | SignedAttestation | SignedVersionRecord | Introduction

_RECORDS: frozenset[type] = frozenset(
    (Preamble, Payload, FirstPart, Part, SignedAttestation, SignedVersionRecord, Introduction)
)


def iter_records(
    plaintext: Buffer, *, what: str = "segment", max_data_bytes: int = MAX_DATA_BLOB_BYTES
) -> Iterator[Record]:
    """The records of one segment, in order, one in memory at a time; FormatError naming ``what``.

    ``max_data_bytes``: the longest data blob, as the group's chunker has it. Declared lengths are
    checked, encoded bytes are not decoded. An error ends the iteration; the records before it are
    good.
    """
    if len(plaintext) > MAX_SEGMENT_PLAINTEXT_BYTES:
        raise FormatError(f"{what}: {len(plaintext)} bytes of records are over the limit")
    # The hook makes a record of each array as soon as it is complete, also of nested ones, which
    # then are no valid field of the outer one: nesting fails before it can take memory.
    unpacker = msgpack.Unpacker(
        max_buffer_size=MAX_SEGMENT_PLAINTEXT_BYTES + len(_NIL),
        max_array_len=MAX_RECORD_FIELDS,
        max_map_len=0,
        strict_map_key=True,
        ext_hook=_refuse_ext,
        list_hook=_RecordReader(max_data_bytes).read,
    )
    try:
        unpacker.feed(plaintext)
        yield from _checked(unpacker)
        # A cut-off record ends the iteration silently, and tell() counts its bytes: a nil comes
        # out behind the last record only if nothing is waiting for more.
        unpacker.feed(_NIL)
        if next(unpacker, _NIL) is not None:
            raise FormatError("the last record is cut off")
    except FormatError as error:
        raise type(error)(f"{what}: {error}") from None
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise FormatError(f"{what}: no stream of records: {type(error).__name__} {error}") from None


def _checked(unpacker: Iterator[Any]) -> Iterator[Record]:
    first = next(unpacker, None)
    if not isinstance(first, Preamble):
        raise FormatError("does not start with a preamble")
    yield first
    for record in unpacker:
        if type(record) not in _RECORDS:
            raise FormatError(f"a bare {type(record).__name__} between records")
        yield record


def _refuse_ext(code: int, data: bytes) -> NoReturn:
    raise FormatError(f"extension type {code} does not belong here")


class _RecordReader:
    """Makes records of arrays; every field is checked for type and limit."""

    def __init__(self, max_data_bytes: int) -> None:
        self._most = tuple(max_blob_bytes(type_, max_data_bytes) for type_ in _TYPES)
        self._readers: tuple[Callable[[list[Any]], Record], ...] = (
            _preamble,
            self._bad_payload,
            self._first_part,
            _part,
            _attestation,
            _version,
            _introduction,
        )

    def read(self, fields: list[Any]) -> Record:
        # Payloads first and in one expression, since this runs for every blob: 0.1 to 0.2 us less
        # than by way of the table (of 2.0 us, half of which is making the Payload). What fails here is
        # explained by the slower checks.
        if len(fields) == 6:
            kind, number, id_, method, length, data = fields
            if (
                type(kind) is int
                and kind == PAYLOAD
                and type(number) is int
                and 0 <= number <= 1
                and type(id_) is bytes
                and len(id_) == 32
                and type(method) is str
                and 0 < len(method) <= MAX_METHOD_CHARS
                and type(length) is int
                and 0 <= length <= self._most[number]
                and type(data) is bytes
                and len(data) <= length + length // 256 + PAYLOAD_SLACK_BYTES
            ):
                return Payload(_TYPES[number], BlobId(id_), method, length, data)
        if not fields or type(fields[0]) is not int or not 0 <= fields[0] < len(self._readers):
            raise FormatError(f"a record of unknown kind {str(fields[:1])[:40]}")
        return self._readers[fields[0]](fields)

    def _bad_payload(self, fields: list[Any]) -> NoReturn:
        _, number, id_, method, length, _ = _count(fields, 6)
        self._check_blob(number, id_, method, length)
        raise FormatError(f"payload of {_name(id_)}: more encoded bytes than its length allows")

    def _first_part(self, fields: list[Any]) -> FirstPart:
        _, number, id_, method, length, total, data = _count(fields, 7)
        type_ = self._check_blob(number, id_, method, length)
        if type(total) is not int or not 0 < total <= max_encoded_bytes(length):
            raise FormatError(f"payload of {_name(id_)}: {total} encoded bytes declared for {length}")
        if type(data) is not bytes or not 0 < len(data) < total:
            raise FormatError(f"payload of {_name(id_)}: its first part has no possible size")
        return FirstPart(type_, id_, method, length, total, data)

    def _check_blob(self, number: Any, id_: Any, method: Any, length: Any) -> BlobType:
        _check_ref(number, id_)
        if type(method) is not str or not 0 < len(method) <= MAX_METHOD_CHARS:
            raise FormatError(f"payload of {_name(id_)}: no method name")
        if type(length) is not int or not 0 <= length <= self._most[number]:
            raise FormatError(f"payload of {_name(id_)}: length {length}, the limit is {self._most[number]}")
        return _TYPES[number]


def _preamble(fields: list[Any]) -> Preamble:
    if len(fields) > 1 and (type(fields[1]) is not int or not RECORD_FORMAT <= fields[1] <= TIER_RECORD_FORMAT):
        known = f"{RECORD_FORMAT} to {TIER_RECORD_FORMAT}"
        raise UnknownVersionError(f"records of format {str(fields[1])[:20]}, this program knows {known}")
    _, format_, number, client, chunker, program = _count(fields, 6)
    if type(number) is not int or not 0 < number < 1 << 63:
        raise FormatError("preamble: no version number")
    if not _is_hash(client) or not _is_hash(chunker):
        raise FormatError("preamble: client and chunker have 32 bytes each")
    if type(program) is not str or len(program) > MAX_TEXT_CHARS:
        raise FormatError("preamble: no program version")
    return Preamble(number, client, chunker, program, format_)


def _part(fields: list[Any]) -> Part:
    _, number, id_, sequence, last, data = _count(fields, 6)
    _check_ref(number, id_)
    if type(sequence) is not int or not 0 < sequence <= MAX_PARTS or type(last) is not bool:
        raise FormatError(f"part of {_name(id_)}: no sequence number and last flag")
    if type(data) is not bytes or not data:
        raise FormatError(f"part {sequence} of {_name(id_)}: no bytes")
    return Part(_TYPES[number], id_, sequence, last, data)


def _attestation(fields: list[Any]) -> SignedAttestation:
    return SignedAttestation(*_signed(fields, MAX_ATTESTATION_BYTES, "attestation"))


def _version(fields: list[Any]) -> SignedVersionRecord:
    return SignedVersionRecord(*_signed(fields, MAX_VERSION_RECORD_BYTES, "version record"))


def _introduction(fields: list[Any]) -> Introduction:
    _, body = _count(fields, 2)
    if type(body) is not bytes:
        raise FormatError("introduction: no body")
    return Introduction.from_bytes(body)


def _signed(fields: list[Any], most: int, what: str) -> tuple[bytes, bytes]:
    _, body, signature = _count(fields, 3)
    if type(body) is not bytes or len(body) > most or type(signature) is not bytes or len(signature) != 64:
        raise FormatError(f"{what}: no body of at most {most} bytes and 64 of signature")
    return body, signature


def _count(fields: list[Any], count: int) -> list[Any]:
    if len(fields) != count:
        raise FormatError(f"record of kind {fields[0]} with {len(fields)} fields, expected {count}")
    return fields


def _check_ref(number: Any, id_: Any) -> None:
    if type(number) is not int or not 0 <= number <= 1:
        raise FormatError(f"unknown blob type {str(number)[:20]}")
    if not _is_hash(id_):
        raise FormatError("a blob ID has 32 bytes")


def _is_hash(value: Any) -> bool:
    return type(value) is bytes and len(value) == 32


def _name(id_: bytes) -> str:
    return f"blob {id_.hex()[:10]}"
