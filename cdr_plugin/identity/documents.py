"""Signed documents: what tiers tell each other through storage that may lie, replay and mix up.

Every document names its type, group, addressee, serial and expiry, all under the signature, and
``open_document`` checks each of them. The group stands in it as a hash, since not every document
is sealed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec

from cdr_plugin.errors import AuthenticationError, FormatError, IntegrityError
from cdr_plugin.identity.codec import Bytes32, Count, WireStruct, check_optional_hash, decode, encode
from cdr_plugin.identity.keys import (
    SIGNATURE_BYTES,
    KemSuite,
    SealingKey,
    SealingPublicKey,
    SigningKey,
    VerifyKey,
    short,
)
from cdr_plugin.identity.wire import MAJOR_VERSION, ObjectKind, check_start, frame, group_hash
from cdr_plugin.model.blobs import Buffer

T = TypeVar("T")

DOCUMENT_PREFIX_BYTES = 2 + 32 + SIGNATURE_BYTES
SEALED_DOCUMENT_PREFIX_BYTES = 4
MAX_DOCUMENT_BYTES = 8 * 1024 * 1024
"""The largest, a receipt naming 65,536 missing blobs and 10,000 versions, has about 5 MB."""

MAX_KIND_CHARS = 32
NEVER_S = (1 << 62) - 1
"""An expiry for documents that age only by a higher serial."""

ANYONE = b""
"""The addressee of a document that anybody of the group may use."""

_DOMAIN = b"cdr/1 document"
_SEALED_DOMAIN = b"cdr/1 sealed document"

Accept: TypeAlias = Callable[[VerifyKey], None]
"""Returns when the key's owner is known and approved, else raises AuthenticationError."""


class _Envelope(WireStruct, frozen=True):
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_KIND_CHARS)]
    group: Bytes32
    addressee: Annotated[bytes, msgspec.Meta(max_length=32)]
    serial: Count
    issued_s: Count
    expires_s: Count
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_DOCUMENT_BYTES)]

    def __post_init__(self) -> None:
        check_optional_hash(self.addressee, "addressee")


@dataclass(frozen=True, slots=True)
class Document:
    """A document whose signature, type, group, addressee, serial and expiry have been checked.

    ``raw_body`` is msgpack, not yet decoded; times are seconds since 1970.
    """

    kind: str
    group: str
    addressee: bytes
    serial: int
    issued_s: int
    expires_s: int
    signer: VerifyKey
    raw_body: bytes

    def body_as(self, type_: type[T]) -> T:
        """The body as one structure, strictly; FormatError."""
        return decode(type_, self.raw_body, f"body of {self.kind}")


def sign_document(
    kind: str,
    *,
    signer: SigningKey,
    group: str,
    addressee: bytes,
    serial: int,
    issued_s: int,
    expires_s: int,
    body: dict[str, Any] | msgspec.Struct,
) -> bytes:
    """The whole object, ready to be stored. ``addressee`` is a fingerprint or ``ANYONE``.

    The caller has stored ``serial`` durably as used: readers refuse lower ones forever.
    """
    envelope = _Envelope(
        kind=kind,
        group=group_hash(group),
        addressee=addressee,
        serial=serial,
        issued_s=issued_s,
        expires_s=expires_s,
        body=encode(body, f"body of {kind}"),
    )
    encoded = encode(envelope, kind)
    start = bytes((MAJOR_VERSION, ObjectKind.DOCUMENT)) + signer.public.raw
    document = start + signer.sign(_DOMAIN, start, encoded) + encoded
    if len(document) > MAX_DOCUMENT_BYTES:
        raise FormatError(f"{kind}: {len(document)} bytes, the limit is {MAX_DOCUMENT_BYTES}")
    return document


def open_document(
    data: Buffer,
    *,
    kind: str,
    signer: VerifyKey | Accept,
    group: str,
    addressee: bytes,
    now_s: float,
    lowest_serial: int = 0,
) -> Document:
    """The document, or AuthenticationError saying which of its claims does not hold.

    ``signer`` is the one key that may have signed, or a callback that judges the key after the
    signature has verified and before anything is decoded. ``addressee`` is the reader's own
    fingerprint; documents for anyone pass too. FormatError and UnknownVersionError for bytes
    that are no document.
    """
    check_start(data, ObjectKind.DOCUMENT, DOCUMENT_PREFIX_BYTES, MAX_DOCUMENT_BYTES, kind)
    view = memoryview(data)
    claimed = VerifyKey(bytes(view[2:34]))
    if isinstance(signer, VerifyKey) and claimed != signer:
        raise AuthenticationError(
            f"{kind}: signed by {short(claimed.fingerprint)}, expected {short(signer.fingerprint)}"
        )
    encoded = view[DOCUMENT_PREFIX_BYTES:]
    claimed.verify(view[34:DOCUMENT_PREFIX_BYTES], _DOMAIN, view[:34], encoded)
    if not isinstance(signer, VerifyKey):
        signer(claimed)
    envelope = decode(_Envelope, encoded, kind)
    _check_claims(envelope, kind, group, addressee, now_s, lowest_serial)
    return Document(
        kind,
        group,
        envelope.addressee,
        envelope.serial,
        envelope.issued_s,
        envelope.expires_s,
        claimed,
        envelope.body,
    )


@dataclass(frozen=True, slots=True)
class Carried:
    """What who only carries a document may rely on: that its owner signed it. ``body`` is not decoded."""

    serial: int
    issued_s: int
    body: bytes


def read_carried(data: Buffer, *, kind: str, is_owner: Callable[[VerifyKey, bytes], bool]) -> Carried | None:
    """A signed document of whatever group, for those who only carry it; None for bytes that are no document
    of this kind, or not signed by who owns it. ``is_owner``: may this key sign for this group hash?"""
    try:
        check_start(data, ObjectKind.DOCUMENT, DOCUMENT_PREFIX_BYTES, MAX_DOCUMENT_BYTES, kind)
        view = memoryview(data)
        claimed = VerifyKey(bytes(view[2:34]))
        encoded = view[DOCUMENT_PREFIX_BYTES:]
        claimed.verify(view[34:DOCUMENT_PREFIX_BYTES], _DOMAIN, view[:34], encoded)
        envelope = decode(_Envelope, encoded, kind)
    except IntegrityError:
        return None
    if envelope.kind != kind or not is_owner(claimed, envelope.group):
        return None
    return Carried(envelope.serial, envelope.issued_s, envelope.body)


def _check_claims(
    envelope: _Envelope, kind: str, group: str, addressee: bytes, now_s: float, lowest_serial: int
) -> None:
    if envelope.kind != kind:
        raise AuthenticationError(f"{kind}: the signed document is a {envelope.kind!r}")
    if envelope.group != group_hash(group):
        raise AuthenticationError(f"{kind}: signed for another group than {group}")
    if envelope.addressee not in (ANYONE, addressee):
        raise AuthenticationError(f"{kind}: addressed to {short(envelope.addressee)}, not to us ({short(addressee)})")
    if envelope.serial < lowest_serial:
        raise AuthenticationError(
            f"{kind}: serial {envelope.serial} is older than {lowest_serial}, which was seen before: replayed"
        )
    if now_s > envelope.expires_s:
        when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(envelope.expires_s))
        raise AuthenticationError(f"{kind}: expired on {when}; ask the issuer for a new one")


def seal_document(document: Buffer, receiver: SealingPublicKey, *, kind: str, group: str) -> bytes:
    """A signed document as an object that only ``receiver`` can open."""
    start = bytes((MAJOR_VERSION, ObjectKind.SEALED_DOCUMENT, receiver.suite, 0))
    return start + receiver.seal(document, frame(_SEALED_DOMAIN, start, kind.encode(), group_hash(group)))


def unseal_document(data: Buffer, *, keys: Sequence[SealingKey], kind: str, group: str) -> bytes:
    """The signed document inside; it still has to pass ``open_document``.

    ``keys``: the reader's keys of this group, newest first. AuthenticationError when none opens.
    """
    most = MAX_DOCUMENT_BYTES + SEALED_DOCUMENT_PREFIX_BYTES + max(suite.overhead for suite in KemSuite)
    check_start(data, ObjectKind.SEALED_DOCUMENT, SEALED_DOCUMENT_PREFIX_BYTES, most, kind)
    start, sealed = (
        bytes(data[:SEALED_DOCUMENT_PREFIX_BYTES]),
        memoryview(data)[SEALED_DOCUMENT_PREFIX_BYTES:],
    )
    if start[3] != 0:
        raise FormatError(f"{kind}: reserved byte is {start[3]}, expected 0")
    info = frame(_SEALED_DOMAIN, start, kind.encode(), group_hash(group))
    for key in keys:
        if key.suite == start[2]:
            try:
                return key.open(sealed, info)
            except AuthenticationError:
                continue  # perhaps sealed to an older key of ours
    raise AuthenticationError(f"{kind}: none of our {len(keys)} keys of group {group} opens it")
