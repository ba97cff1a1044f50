"""A tiny reduction method that copies from other blobs, registered as a third party's would be.

::

    type                1 byte, that of the blob and its bases
    number of bases     1 byte, then 32 bytes of ID for each
    operations          0, length u32, bytes      literal
                        1, base u8, offset u32, length u32
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

from cdr_plugin.contracts import (
    ENTRY_POINT_GROUP,
    Decoder,
    Encoder,
    FetchBlob,
    ReductionMethod,
    Settings,
    hookimpl,
)
from cdr_plugin.errors import PayloadError
from cdr_plugin.model.blobs import BlobId, BlobType, Buffer, Payload, blob_id
from cdr_plugin.plugins import Plugins

LABEL = "copying/1"
_COPY = struct.Struct(">BII")
_LITERAL = struct.Struct(">I")

Operation = bytes | tuple[int, int, int]
"""A literal, or base, offset and length."""


class Nothing(Encoder):
    def encode(self, blob: Buffer) -> Buffer | None:
        return None


class Copier(Decoder):
    def bases(self, data: Buffer) -> Sequence[BlobId]:
        if len(data) < 2 or len(data) < 2 + 32 * data[1]:
            raise PayloadError("ends within its bases")
        return [BlobId(bytes(data[at : at + 32])) for at in range(2, 2 + 32 * data[1], 32)]

    def decode(self, data: Buffer, length: int, fetch: FetchBlob) -> bytes:
        bases = self.bases(data)
        at, out = 2 + 32 * len(bases), bytearray()
        while at < len(data):
            if data[at] == 0:
                (size,) = _LITERAL.unpack_from(data, at + 1)
                out += data[at + 5 : at + 5 + size]
                at += 5 + size
            else:
                base, offset, size = _COPY.unpack_from(data, at + 1)
                out += fetch(BlobType(data[0]), bases[base])[offset : offset + size]
                at += 10
            if len(out) > length:
                raise PayloadError("decodes to more than it declares")
        if len(out) != length:
            raise PayloadError("decodes to less than it declares")
        return bytes(out)


class Copying(ReductionMethod):
    name = "copying"

    def encoder(self, settings: Settings) -> Encoder:
        return Nothing()

    def decoder(self) -> Decoder:
        return Copier()


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return [Copying()]


def with_copying() -> Plugins:
    """The installed plugins and this one."""
    mine = EntryPoint("copying", __name__, ENTRY_POINT_GROUP)
    return Plugins(lambda: [*entry_points(group=ENTRY_POINT_GROUP), mine])


def encoded(type_: BlobType, bases: Sequence[BlobId], *operations: Operation) -> bytes:
    parts = [bytes((type_, len(bases))), *bases]
    for operation in operations:
        if isinstance(operation, bytes):
            parts += [b"\0", _LITERAL.pack(len(operation)), operation]
        else:
            parts += [b"\1", _COPY.pack(*operation)]
    return b"".join(parts)


def delta(
    new: bytes, bases: Sequence[bytes], *operations: Operation, type_: BlobType = BlobType.DATA
) -> Payload:
    """A payload that claims to be ``new``, made of ``operations`` upon ``bases``."""
    ids = [blob_id(base) for base in bases]
    return Payload(type_, blob_id(new), LABEL, len(new), encoded(type_, ids, *operations))


def appended(new: bytes, base: bytes, type_: BlobType = BlobType.DATA) -> Payload:
    """``new`` as what it has in common with the start of ``base``, and the rest."""
    common = next((at for at, (a, b) in enumerate(zip(new, base, strict=False)) if a != b), min(len(new), len(base)))
    return delta(new, [base], (0, 0, common), new[common:], type_=type_)
