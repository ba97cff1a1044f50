"""Versions that a check has verified, as tiers tell and remember them. Needs no crypto library to read.

::

    version: number u64, record hash 32 bytes, time of the check u64 (seconds since 1970)   big-endian
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from cdr_plugin.errors import FormatError
from cdr_plugin.parcel.limits import VERIFIED_VERSION_BYTES

_VERSION = struct.Struct(">Q32sQ")
assert _VERSION.size == VERIFIED_VERSION_BYTES

_MAX = 1 << 63


class VerifiedVersion(NamedTuple):
    """A version, by its number and the hash of its record, and when a check last covered it."""

    number: int
    record: bytes
    time_s: int


def pack_verified(versions: Iterable[VerifiedVersion]) -> bytes:
    """The list as a document and a client's state hold it."""
    return b"".join(_VERSION.pack(*version) for version in versions)


def unpack_verified(packed: bytes) -> list[VerifiedVersion]:
    """What ``pack_verified`` was given; FormatError unless it ascends by number and record."""
    if len(packed) % VERIFIED_VERSION_BYTES:
        raise FormatError(f"verified: {len(packed)} bytes are no list of versions")
    versions = [VerifiedVersion(*fields) for fields in _VERSION.iter_unpack(packed)]
    if any(not 1 <= version.number < _MAX or version.time_s >= _MAX for version in versions):
        raise FormatError("verified: a number or a time is out of range")
    if any(a[:2] >= b[:2] for a, b in pairwise(versions)):
        raise FormatError("verified: its versions are not in ascending order")
    return versions
