"""A group's central policy as it travels: signed by the top tier, sealed to each of those it is for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Unpack

import msgspec

from cdr_plugin.identity.codec import WireStruct
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_POLICY_CHARS
from cdr_plugin.parcel.sealed import Addressee, AddresseeFields, Author, AuthorFields

_KIND = "policy"


class _Body(WireStruct, frozen=True):
    text: Annotated[str, msgspec.Meta(max_length=MAX_POLICY_CHARS)]


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """``text``: TOML, authentic but not yet read. Of two documents of one tier the higher serial counts."""

    serial: int
    text: str


def write_policy(policy: PolicyDocument, signer: SigningKey, **author: Unpack[AuthorFields]) -> bytes:
    """The object; FormatError for a text that is too long."""
    return Author(signer, **author).seal(_KIND, policy.serial, _Body(text=policy.text))


def read_policy(data: Buffer, **addressee: Unpack[AddresseeFields]) -> PolicyDocument:
    """The policy that the tier signed for the client; AuthenticationError, FormatError."""
    serial, body = Addressee(**addressee).open(data, _KIND, _Body)
    return PolicyDocument(serial, body.text)
