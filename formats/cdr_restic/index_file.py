"""Index files: which blobs are where, as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.kernel import BLOB_RECORD, LISTED_RECORD, scan_index
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_restic.crypto import OVERHEAD
from cdr_restic.packs import PackEntry

FULL_INDEX_BLOBS = 50_000
"""An index file is written when it would list this many blobs."""

_U32 = 0xFFFF_FFFF


class IndexedPack(NamedTuple):
    """A pack and all of its blobs; ``name`` is hex."""

    name: str
    entries: Sequence[PackEntry]


class PackedIndex(NamedTuple):
    """An index file as records end to end: ``LISTED_RECORD`` of each pack, ``BLOB_RECORD`` of each blob.

    The pack of a blob is its pack's place in ``packs``; the blobs of the first pack come first, and so on.
    """

    packs: bytes
    blobs: bytes


_Id = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=_U32)]


class _Blob(msgspec.Struct):
    id: _Id
    type: Literal["data", "tree"]
    offset: _Size
    length: _Size
    uncompressed_length: _Size = 0


class _Pack(msgspec.Struct):
    id: _Id
    blobs: list[_Blob] | None = None


class _Index(msgspec.Struct):
    packs: list[_Pack] | None


_decoder = msgspec.json.Decoder(_Index)
_TYPES = {"data": BlobType.DATA, "tree": BlobType.TREE}
_NAMES = {BlobType.DATA: "data", BlobType.TREE: "tree"}


def parse_index(data: Buffer, version: int) -> list[IndexedPack]:
    """The packs of an index file of a repository of that version; FormatError."""
    try:
        packs = _decoder.decode(data).packs or []
        return [IndexedPack(_hex_id(pack.id).hex(), _entries(pack, version)) for pack in packs]
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FormatError(f"index: {error}") from None


def read_index(data: Buffer, version: int) -> PackedIndex:
    """The same, packed; FormatError.

    What restic and CDR write is scanned by the kernel (50,000 blobs in about 6 ms); any other valid JSON takes
    the longer way, at about a tenth of the speed.
    """
    scanned = scan_index(data, OVERHEAD, version >= 2)
    return PackedIndex(*scanned) if scanned else pack_index(parse_index(data, version))


def pack_index(packs: Sequence[IndexedPack]) -> PackedIndex:
    """Packs that were parsed, as the kernel would have scanned them."""
    return PackedIndex(
        b"".join(LISTED_RECORD.pack(bytes.fromhex(pack.name), len(pack.entries)) for pack in packs),
        b"".join(
            BLOB_RECORD.pack(entry.type, entry.id, number, entry.offset, entry.length, entry.plain)
            for number, pack in enumerate(packs)
            for entry in pack.entries
        ),
    )


def _entries(pack: _Pack, version: int) -> list[PackEntry]:
    entries = [
        PackEntry(_TYPES[blob.type], _hex_id(blob.id), blob.offset, blob.length, blob.uncompressed_length)
        for blob in pack.blobs or []
    ]
    for entry in entries:
        if entry.length < OVERHEAD or entry.offset + entry.length > _U32:
            raise FormatError(f"index: impossible blob of {entry.length} bytes at {entry.offset}")
        if entry.plain and version < 2:
            raise FormatError("index: compressed blob in a repository of version 1")
    return entries


def _hex_id(text: str) -> bytes:
    id_ = bytes.fromhex(text)
    if len(id_) != 32:  # fromhex skips spaces
        raise FormatError(f"index: {text!r} is not an ID")
    return id_


def encode_index(packs: Sequence[IndexedPack]) -> bytes:
    """An index file. Written by hand: twice as fast as building objects for an encoder."""
    return ('{"packs":[' + ",".join(map(_encode_pack, packs)) + "]}\n").encode("ascii")


def _encode_pack(pack: IndexedPack) -> str:
    return f'{{"id":"{pack.name}","blobs":[{",".join(map(_encode_entry, pack.entries))}]}}'


def _encode_entry(entry: PackEntry) -> str:
    type_, id_, offset, length, plain = entry
    text = f'{{"id":"{id_.hex()}","type":"{_NAMES[type_]}","offset":{offset},"length":{length}'
    return f'{text},"uncompressed_length":{plain}}}' if plain else text + "}"
