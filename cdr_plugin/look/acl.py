"""POSIX ACLs: from the binary form of the kernel's attributes to the text that tar carries."""

from __future__ import annotations

import struct

from cdr_plugin.errors import FormatError

_VERSION = struct.Struct("<I")
_ENTRY = struct.Struct("<HHI")
_KINDS = {0x01: "user:", 0x02: "user:{}", 0x04: "group:", 0x08: "group:{}", 0x10: "mask:", 0x20: "other:"}

ACL_ATTRIBUTES = {
    "system.posix_acl_access": "SCHILY.acl.access",
    "system.posix_acl_default": "SCHILY.acl.default",
}
"""Names of the attributes, and of the records of tar."""


def acl_text(value: bytes) -> str:
    """``user::rw-,user:1234:r--,...`` with numeric IDs; FormatError when ``value`` is no ACL."""
    if len(value) < _VERSION.size or (len(value) - _VERSION.size) % _ENTRY.size or _VERSION.unpack_from(value) != (2,):
        raise FormatError(f"{len(value)} bytes are no access control list")
    return ",".join(_entry(*entry) for entry in _ENTRY.iter_unpack(value[_VERSION.size :]))


def _entry(kind: int, permissions: int, id_: int) -> str:
    if kind not in _KINDS:
        raise FormatError(f"an access control list with an entry of kind {kind}")
    letters = "".join(letter if permissions >> (2 - at) & 1 else "-" for at, letter in enumerate("rwx"))
    return f"{_KINDS[kind].format(id_)}:{letters}"
