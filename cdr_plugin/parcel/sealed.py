"""Sealed documents: what one party writes for one other, signed by its author and sealed to its addressee.

Most answers of a tier to a client travel in this frame; what differs is their kind and their body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict, TypeVar

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.documents import NEVER_S, Accept, open_document, seal_document, sign_document, unseal_document
from cdr_plugin.identity.keys import SealingKey, SealingPublicKey, SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer

_S = TypeVar("_S", bound=WireStruct)


class AuthorFields(TypedDict):
    """The keywords of ``Author`` behind the signer, for functions that pass them on."""

    client: VerifyKey
    sealing: SealingPublicKey
    group: str
    issued_s: int
    expires_s: NotRequired[int]


class AddresseeFields(TypedDict):
    """The keywords of ``Addressee``, for functions that pass them on."""

    keys: Sequence[SealingKey]
    tier: VerifyKey | Accept
    client: VerifyKey
    group: str
    now_s: float
    lowest_serial: NotRequired[int]


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, and for whom: ``client``, with ``sealing`` as its key of the group."""

    signer: SigningKey
    client: VerifyKey
    sealing: SealingPublicKey
    group: str
    issued_s: int
    expires_s: int = NEVER_S

    def seal(self, kind: str, serial: int, body: WireStruct) -> bytes:
        """The object; FormatError for a body beyond its limits. Readers refuse lower serials than they have seen."""
        document = sign_document(
            kind,
            signer=self.signer,
            group=self.group,
            addressee=self.client.fingerprint,
            serial=serial,
            issued_s=self.issued_s,
            expires_s=self.expires_s,
            body=body,
        )
        return seal_document(document, self.sealing, kind=kind, group=self.group)


@dataclass(frozen=True, slots=True)
class Addressee:
    """Who reads: ``client`` with its ``keys`` of the group, of nobody but ``tier`` (its key, or who judges it), and
    nothing below ``lowest_serial``."""

    keys: Sequence[SealingKey]
    tier: VerifyKey | Accept
    client: VerifyKey
    group: str
    now_s: float
    lowest_serial: int = 0

    def open(self, data: Buffer, kind: str, type_: type[_S]) -> tuple[int, _S]:
        """Serial and body; AuthenticationError, FormatError."""
        document = open_document(
            unseal_document(data, keys=self.keys, kind=kind, group=self.group),
            kind=kind,
            signer=self.tier,
            group=self.group,
            addressee=self.client.fingerprint,
            now_s=self.now_s,
            lowest_serial=self.lowest_serial,
        )
        return document.serial, document.body_as(type_)
