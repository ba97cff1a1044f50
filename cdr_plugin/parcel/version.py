"""The version record: what a client says of one version, signed, in its own bytes.

The body is signed and hashed as it stands and passed on untouched, so whatever tier verifies it
last verifies what the client wrote. It names everything that reaches the snapshot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated

import msgspec

from cdr_plugin.errors import AuthenticationError, FormatError
from cdr_plugin.identity.codec import U32, Bytes32, WireStruct, check_format, check_optional_hash, decode, encode
from cdr_plugin.identity.keys import SIGNATURE_BYTES, SigningKey, VerifyKey, short
from cdr_plugin.model.times import check_time
from cdr_plugin.model.versions import SnapshotSummary
from cdr_plugin.parcel.limits import (
    MAX_PATH_CHARS,
    MAX_PATHS,
    MAX_TAGS,
    MAX_TEXT_CHARS,
    MAX_VERSION_RECORD_BYTES,
)

VERSION_RECORD_FORMAT = 1

_DOMAIN = b"cdr/1 version record"

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
_Path = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_PATH_CHARS)]
_Number = Annotated[int, msgspec.Meta(ge=1, le=(1 << 63) - 1)]


class VersionRecord(WireStruct, frozen=True):
    """One version as its client states it. Fields of restic's snapshot keep its names.

    ``chunker``: ID of the chunker parameters (``chunker_id``); ``client``: fingerprint of the
    client's signing key; ``number`` counts from 1; ``previous``: SHA-256 of the body of the
    client's version before, empty for its first; ``tree``: the root tree's ID; ``time`` RFC 3339.
    """

    format: Annotated[int, msgspec.Meta(ge=VERSION_RECORD_FORMAT, le=VERSION_RECORD_FORMAT)]
    group: _Text
    chunker: Bytes32
    client: Bytes32
    number: _Number
    previous: Annotated[bytes, msgspec.Meta(max_length=32)]
    tree: Bytes32
    time: _Text
    paths: Annotated[list[_Path], msgspec.Meta(max_length=MAX_PATHS)]
    hostname: _Text
    username: _Text
    uid: U32
    gid: U32
    excludes: Annotated[list[_Path], msgspec.Meta(max_length=MAX_PATHS)]
    tags: Annotated[list[_Text], msgspec.Meta(max_length=MAX_TAGS)]
    program_version: _Text
    summary: SnapshotSummary | None

    def __post_init__(self) -> None:
        check_optional_hash(self.previous, "previous record")


@dataclass(frozen=True, slots=True)
class SignedVersionRecord:
    """A version record as it travels: opaque bytes and the client's signature."""

    body: bytes
    signature: bytes

    @property
    def hash(self) -> bytes:
        """32 bytes; what the next version's record names as ``previous``."""
        return sha256(self.body).digest()


def sign_version_record(record: VersionRecord, signer: SigningKey) -> SignedVersionRecord:
    """FormatError when the record breaks a limit of its own format or names another client."""
    if record.client != signer.public.fingerprint:
        raise FormatError(f"version {record.number}: the record names another client than the one that signs")
    body = encode(record, f"version {record.number}")
    _decode(body)  # what readers would refuse must not be written
    return SignedVersionRecord(body, signer.sign(_DOMAIN, body))


def verify_version_record(signed: SignedVersionRecord, *, client: VerifyKey, group: str) -> VersionRecord:
    """The record, once it is proved to be ``client``'s own and of ``group``.

    AuthenticationError when it is not, FormatError when its limits are broken. Whether it follows
    the version before is for the receiver to judge: two successors are a fork, not a forgery.
    """
    who = short(client.fingerprint)
    if len(signed.signature) != SIGNATURE_BYTES:
        raise FormatError(f"version record of client {who}: signature of {len(signed.signature)} bytes")
    client.verify(signed.signature, _DOMAIN, signed.body)
    record = _decode(signed.body)
    if record.client != client.fingerprint:
        raise AuthenticationError(f"version {record.number}: signed by {who}, but names another client")
    if record.group != group:
        raise AuthenticationError(f"version {record.number} of client {who}: of another group than {group}")
    return record


def _decode(body: bytes) -> VersionRecord:
    if len(body) > MAX_VERSION_RECORD_BYTES:
        raise FormatError(f"version record: {len(body)} bytes, the limit is {MAX_VERSION_RECORD_BYTES}")
    check_record_format(body)
    record = decode(VersionRecord, body, "version record")
    check_time(record.time)
    if record.summary is not None:
        _check_summary(record.summary)
    return record


def check_record_format(body: bytes) -> None:
    """UnknownVersionError for the record of a newer program, which may say what this one would lose."""
    check_format(body, VERSION_RECORD_FORMAT, "version record")


def _check_summary(summary: SnapshotSummary) -> None:
    for name in summary.__struct_fields__:
        value = getattr(summary, name)
        if isinstance(value, str):
            check_time(value)
        elif not 0 <= value < 1 << 63:
            raise FormatError(f"version record: summary has {name} {value}")


def chunker_id(parameters: Mapping[str, str | int]) -> bytes:
    """32 bytes that name chunker parameters: SHA-256 of their JSON with sorted keys, no spaces."""
    canonical = json.dumps(dict(parameters), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return sha256(canonical.encode()).digest()
