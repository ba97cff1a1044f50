"""Introductions: what a tier says of a client below it whose records follow in its parcel.

The tier above registers the client by it, verifies the client's version records with its key, and seals to
it what is the client's alone to read. Inside the seal and the signature of the parcel, so it has none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.identity.codec import Bytes32, ShortText, WireStruct, check_format, decode, encode
from cdr_plugin.identity.keys import SealingPublicKey, VerifyKey
from cdr_plugin.identity.ticket import MAX_FACTS, SealKey
from cdr_plugin.identity.wire import is_name
from cdr_plugin.parcel.limits import MAX_INTRODUCTION_BYTES

INTRODUCTION_FORMAT = 1

_WHAT = "introduction"


class _Body(WireStruct, frozen=True):
    format: Annotated[int, msgspec.Meta(ge=INTRODUCTION_FORMAT, le=INTRODUCTION_FORMAT)]
    key: Bytes32
    sealing: SealKey
    name: ShortText
    facts: Annotated[dict[ShortText, ShortText], msgspec.Meta(max_length=MAX_FACTS)]


@dataclass(frozen=True, slots=True)
class Introduction:
    """A client's keys, the name by which the tier that speaks for it knows it, and what it says of itself."""

    client: VerifyKey
    sealing: SealingPublicKey
    name: str
    facts: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The record's body; FormatError for what readers would refuse."""
        body = encode(
            _Body(
                format=INTRODUCTION_FORMAT,
                key=self.client.raw,
                sealing=SealKey.of(self.sealing),
                name=self.name,
                facts=dict(self.facts),
            ),
            _WHAT,
        )
        self.from_bytes(body)
        return body

    @classmethod
    def from_bytes(cls, data: bytes) -> Introduction:
        """FormatError."""
        if len(data) > MAX_INTRODUCTION_BYTES:
            raise FormatError(f"{_WHAT}: {len(data)} bytes, the limit is {MAX_INTRODUCTION_BYTES}")
        check_format(data, INTRODUCTION_FORMAT, _WHAT)
        body = decode(_Body, data, _WHAT)
        if not is_name(body.name):
            raise FormatError(f"{_WHAT}: {body.name[:80]!r} is no client name")
        return cls(VerifyKey(body.key), body.sealing.public, body.name, body.facts)
