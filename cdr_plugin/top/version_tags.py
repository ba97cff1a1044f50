"""The tag of a version's snapshot: whose it is, and which."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass

_PREFIX = "cdr-version:"
_OWNER = slice(len(_PREFIX), len(_PREFIX) + 22)
_TAG = re.compile(_PREFIX + r"([A-Za-z0-9_-]{22}):([1-9][0-9]{0,18}):([A-Za-z0-9_-]{43})", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class VersionTag:
    """Client (16 bytes of its ID), number and record hash: marks the snapshot of one version.

    Looked for before a snapshot is written and when state is rebuilt.
    """

    client: bytes
    number: int
    record_hash: bytes

    @classmethod
    def of(cls, client: bytes, number: int, record_hash: bytes) -> VersionTag:
        return cls(client[:16], number, record_hash)

    @classmethod
    def parse(cls, tag: str) -> VersionTag | None:
        """None for any other tag."""
        match = _TAG(tag)
        if match is None:
            return None
        return cls(_unbase64(match[1]), int(match[2]), _unbase64(match[3]))

    @staticmethod
    def owner(client: bytes) -> str:
        """The part that all tags of a client have."""
        return _base64(client[:16])

    def __str__(self) -> str:
        return f"{_PREFIX}{self.owner(self.client)}:{self.number}:{_base64(self.record_hash)}"


def owner_of(tag: str) -> str:
    """The part that names the client, of what may be a version tag: empty for what is none in any case."""
    return tag[_OWNER] if tag.startswith(_PREFIX) else ""


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
