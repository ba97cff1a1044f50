"""A notice: one line of a receiving tier to a client, such as why nothing of it is taken just now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Unpack

import msgspec

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_REASON_CHARS
from cdr_plugin.parcel.sealed import Addressee, AddresseeFields, Author, AuthorFields

_KIND = "notice"


class _Body(WireStruct, frozen=True):
    text: Annotated[str, msgspec.Meta(max_length=MAX_REASON_CHARS)]


@dataclass(frozen=True, slots=True)
class Notice:
    """``text``: empty when there is nothing to say any more."""

    serial: int
    text: str


def write_notice(text: str, signer: SigningKey, *, serial: int, **author: Unpack[AuthorFields]) -> bytes:
    """The object. ``serial`` must be higher than that of any before, durably."""
    return Author(signer, **author).seal(_KIND, serial, _Body(text=text[:MAX_REASON_CHARS]))


def read_notice(data: Buffer, **addressee: Unpack[AddresseeFields]) -> Notice:
    """The notice of the tier to the client; AuthenticationError, FormatError."""
    serial, body = Addressee(**addressee).open(data, _KIND, _Body)
    return Notice(serial, body.text)
