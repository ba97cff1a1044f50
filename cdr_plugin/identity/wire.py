"""What every object on the wire begins with, and how bytes are joined before they are signed.

All objects start with the major format version and a kind. A version or kind that this program
does not know is left where it is and reported: it belongs to a newer program.
"""

from __future__ import annotations

import re
from enum import IntEnum
from hashlib import sha256

from cdr_plugin.errors import FormatError, UnknownVersionError, UserError
from cdr_plugin.model.blobs import Buffer

MAJOR_VERSION = 1
"""First byte of every object."""

_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}").fullmatch


class ObjectKind(IntEnum):
    """Second byte of every object."""

    SEGMENT = 1
    DOCUMENT = 2
    SEALED_DOCUMENT = 3
    NOTE = 4


def frame(domain: bytes, *parts: Buffer) -> bytes:
    """``domain`` and ``parts``, each behind its length as u64be, and nothing else.

    No two different lists give the same bytes, which is what signing and deriving need.
    """
    joined: list[Buffer] = []
    for part in (domain, *parts):
        joined += (len(part).to_bytes(8, "big"), part)
    return b"".join(joined)


def check_group(group: str) -> str:
    """``group`` itself; UserError unless it is safe in file names, URLs and repository paths."""
    if _GROUP(group) is None:
        raise UserError(f"{group[:80]!r} is no group name: use 1 to 64 of A-Z a-z 0-9 . _ -, not starting with . or -")
    return group


def is_name(text: str) -> bool:
    """Is ``text`` fit to name a group, a client or a tier?"""
    return _GROUP(text) is not None


def group_hash(group: str) -> bytes:
    """32 bytes that stand for a group where its name must not be read."""
    return sha256(frame(b"cdr/1 group", group.encode())).digest()


def is_of_newer_program(data: Buffer) -> bool:
    """Does an object begin as one that this program does not know, so that it is left where it is?"""
    return len(data) >= 2 and (data[0] > MAJOR_VERSION or data[1] not in ObjectKind.__members__.values())


def check_start(data: Buffer, kind: ObjectKind, least: int, most: int, what: str) -> None:
    """Refuse objects of another version, kind or size before anything else is looked at."""
    if len(data) < 2:
        raise FormatError(f"{what}: {len(data)} bytes are too short for any object")
    if data[0] != MAJOR_VERSION:
        raise UnknownVersionError(f"{what}: format version {data[0]} is not known; left where it is, upgrade cdr")
    if data[1] not in ObjectKind.__members__.values():
        raise UnknownVersionError(f"{what}: kind {data[1]} is not known; left where it is, upgrade cdr")
    if data[1] != kind:
        raise FormatError(f"{what}: a {ObjectKind(data[1]).name.lower()} where a {kind.name.lower()} belongs")
    if not least <= len(data) <= most:
        raise FormatError(f"{what}: {len(data)} bytes, expected {least} to {most}")
