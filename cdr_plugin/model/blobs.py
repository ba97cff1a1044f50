"""Blobs: runs of bytes named by the SHA-256 of their plaintext, and encodings of them.

The identity of a blob is the pair (type, ID): the same bytes may be a data blob and a tree
blob, and restic keeps the two apart.
"""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256
from typing import NewType, TypeAlias

import msgspec

from cdr_plugin.errors import PayloadError

Buffer: TypeAlias = bytes | bytearray | memoryview
"""Bytes-like and contiguous; whoever is passed one may read it only until it returns."""

BlobId = NewType("BlobId", bytes)
"""32 raw bytes: the SHA-256 of a blob's plaintext."""

MAX_DATA_BLOB_BYTES = 8 * 1024 * 1024
"""restic's chunker maximum; a group with another chunker states its own."""

MAX_TREE_BLOB_BYTES = 1024 * 1024 * 1024
"""A directory of about two million entries; beyond it a tree is refused, not allocated."""


class BlobType(IntEnum):
    """What a blob holds; the values are those of restic's pack header."""

    DATA = 0
    TREE = 1


class Payload(msgspec.Struct, frozen=True):
    """One encoding of one blob.

    ``method`` is ``name/version`` of the reduction method that made it (``plain/1``: the bytes
    themselves), ``length`` the plaintext's size in bytes, ``data`` the encoded bytes.
    """

    type: BlobType
    id: BlobId
    method: str
    length: int
    data: Buffer


PLAIN = "plain/1"
"""The method of a payload that is the blob itself; every tier decodes it without a plugin."""


def blob_id(data: Buffer) -> BlobId:
    return BlobId(sha256(data).digest())


def verify_blob(type_: BlobType, id_: BlobId, data: Buffer) -> None:
    """Raise PayloadError unless ``data`` is the plaintext that ``id_`` names."""
    if sha256(data).digest() != id_:
        raise PayloadError(f"{type_.name.lower()} blob {id_.hex()[:10]}: decoded bytes have another SHA-256")
