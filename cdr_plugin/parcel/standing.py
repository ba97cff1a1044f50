"""The standing: what the top tier still has of one client, signed by the tier and sealed to the client.

It says which repository this is and which of the client's versions are in it as snapshots, so that a
client learns of a new repository, of versions that were removed, and of versions that it does not
know itself (an older copy of its state, a second machine under one identity).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, NamedTuple, Unpack

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.identity.codec import Count, WireStruct, check_optional_hash
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_STANDING_VERSIONS, MAX_TEXT_CHARS, STANDING_VERSION_BYTES
from cdr_plugin.parcel.sealed import Addressee, AddresseeFields, Author, AuthorFields

_KIND = "standing"
_VERSION = struct.Struct(">Q32s")
assert _VERSION.size == STANDING_VERSION_BYTES

_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
_Hash = Annotated[bytes, msgspec.Meta(max_length=32)]


class PresentVersion(NamedTuple):
    """A version that is in the repository: its number and the hash of its record."""

    number: int
    record: bytes


class _Body(WireStruct, frozen=True):
    repository: _Text
    number: Count
    record: _Hash
    tree: _Hash
    time: _Text
    versions: Annotated[bytes, msgspec.Meta(max_length=MAX_STANDING_VERSIONS * STANDING_VERSION_BYTES)]

    def __post_init__(self) -> None:
        check_optional_hash(self.record, "record")
        check_optional_hash(self.tree, "tree")
        if bool(self.number) != bool(self.record):
            raise FormatError("standing: number and record of the newest version contradict each other")


@dataclass(frozen=True, slots=True)
class Standing:
    """``repository``: its ID. ``number``, ``record`` (hash), ``tree`` and ``time`` (RFC 3339) of the
    client's newest committed version, whether or not it is still there: 0 and empty before the first, and
    tree and time empty where the tier does not know them.

    ``versions``: those that are there, ascending by number and record; with ``MAX_STANDING_VERSIONS`` of
    them it says nothing of those before the first.
    """

    serial: int
    repository: str
    number: int = 0
    record: bytes = b""
    tree: bytes = b""
    time: str = ""
    versions: Sequence[PresentVersion] = ()


def _body(standing: Standing) -> _Body:
    return _Body(
        repository=standing.repository,
        number=standing.number,
        record=standing.record,
        tree=standing.tree,
        time=standing.time,
        versions=pack_versions(standing.versions),
    )


def write_standing(standing: Standing, signer: SigningKey, **author: Unpack[AuthorFields]) -> bytes:
    """The object. ``standing.serial`` must be higher than that of any before, durably."""
    return Author(signer, **author).seal(_KIND, standing.serial, _body(standing))


def read_standing(data: Buffer, **addressee: Unpack[AddresseeFields]) -> Standing:
    """The standing that the tier wrote for the client; AuthenticationError, FormatError."""
    serial, body = Addressee(**addressee).open(data, _KIND, _Body)
    versions = tuple(unpack_versions(body.versions))
    return Standing(serial, body.repository, body.number, body.record, body.tree, body.time, versions)


def pack_versions(versions: Iterable[PresentVersion]) -> bytes:
    """A list of versions as a standing holds it."""
    return b"".join(_VERSION.pack(*version) for version in versions)


def unpack_versions(packed: bytes) -> list[PresentVersion]:
    """The versions of such a list; FormatError unless they ascend."""
    if len(packed) % STANDING_VERSION_BYTES:
        raise FormatError(f"standing: {len(packed)} bytes are no list of versions")
    versions = [PresentVersion(*fields) for fields in _VERSION.iter_unpack(packed)]
    if any(not 1 <= number < 1 << 63 for number, _ in versions):
        raise FormatError("standing: a version's number is out of range")
    if any(a >= b for a, b in pairwise(versions)):
        raise FormatError("standing: its versions are not in ascending order")
    return versions
