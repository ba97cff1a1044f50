"""Rows of the client's state that several of its parts pass around."""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.client.states import SegmentState
from cdr_plugin.model.blobs import BlobId, BlobType

KEY_BYTES = 33
"""A blob in a ``segments`` row: one byte of type, 32 of ID."""


@dataclass(frozen=True, slots=True)
class SegmentRow:
    """One sealed segment; ``size`` in bytes, ``sha256`` of the whole object. ``held``: its object is in the
    spool, else a recipe stands for it."""

    parcel_ord: int
    parcel_id: bytes
    index: int
    size: int
    sha256: bytes
    state: SegmentState
    held: bool


def blob_key(type_: BlobType, id_: BlobId) -> bytes:
    return bytes((type_,)) + id_


def cut_keys(keys: bytes) -> list[bytes]:
    """The keys that stand end to end in a ``segments`` row."""
    return [keys[at : at + KEY_BYTES] for at in range(0, len(keys), KEY_BYTES)]
