"""The file that ``cdr identity export`` writes: whatever of a tier cannot be made again, under a passphrase.

::

    "cdr-identity-export 1\n"   22 bytes, so that people and programs know what it is
    passes, lanes               u32 each      argon2id (RFC 9106)
    memory                      u32, KiB
    salt, nonce                 32 and 12 bytes, random
    sealed                      AES-256-GCM of one small structure, all before it being the associated data

Numbers are big-endian. A file with another first line is of another version, or something else.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cdr_plugin.errors import FormatError, UnknownVersionError, UserError
from cdr_plugin.identity.codec import U32, Count, ShortText, WireStruct, decode, encode
from cdr_plugin.identity.keys import Entropy

MAX_EXPORT_BYTES = 256 * 1024 * 1024
"""A register of 100,000 clients has about 200 MB."""
MAX_EXPORT_MEMORY_KIB = 1024 * 1024
"""What a file may make its reader spend on its passphrase: 1 GiB."""
MAX_EXPORT_PASSES = 64

_NAME = b"cdr-identity-export "
_MAGIC = _NAME + b"1\n"
_COST = struct.Struct(">III")
_SALT_BYTES, _NONCE_BYTES = 32, 12
_START_BYTES = len(_MAGIC) + _COST.size + _SALT_BYTES + _NONCE_BYTES
_PASSES, _LANES, _MEMORY_KIB = 3, 4, 64 * 1024
"""The second choice of RFC 9106: 0.12 s and 64 MiB here, for small machines too."""

_WHAT = "identity export"


class StateFacts(WireStruct, frozen=True):
    """Facts of one ``state.db`` that cannot be learnt again, with the shape of that database: its schema version
    and the statements that make it."""

    version: U32
    schema: Annotated[list[str], msgspec.Meta(max_length=256)]
    facts: dict[str, bytes]


class _Body(WireStruct, frozen=True):
    tier: ShortText
    role: ShortText
    made_s: Count
    program: ShortText
    files: dict[str, bytes]
    states: dict[str, StateFacts]


@dataclass(frozen=True, slots=True)
class Export:
    """What is kept of a tier. ``files`` of its identity by name; ``states`` by their folder, seen from the tier's
    state folder (``.`` is that folder itself). ``made_s``: seconds since 1970; ``program``: what made it."""

    tier: str
    role: str
    made_s: int
    program: str
    files: Mapping[str, bytes] = field(repr=False)
    states: Mapping[str, StateFacts] = field(repr=False)


def seal_export(export: Export, passphrase: str, entropy: Entropy = os.urandom) -> bytes:
    """The whole file."""
    body = _Body(
        tier=export.tier,
        role=export.role,
        made_s=export.made_s,
        program=export.program,
        files=dict(export.files),
        states=dict(export.states),
    )
    plaintext = encode(body, _WHAT)
    if len(plaintext) > MAX_EXPORT_BYTES:
        raise FormatError(f"{_WHAT}: {len(plaintext)} bytes, the limit is {MAX_EXPORT_BYTES}")
    salt, nonce = entropy(_SALT_BYTES), entropy(_NONCE_BYTES)
    start = _MAGIC + _COST.pack(_PASSES, _LANES, _MEMORY_KIB) + salt + nonce
    key = _key(passphrase, salt, _PASSES, _LANES, _MEMORY_KIB)
    return start + AESGCM(key).encrypt(nonce, plaintext, start)


def is_export(start: bytes) -> bool:
    """Do these first bytes of a file say that it is one, of whatever version?"""
    return start.startswith(_NAME)


def open_export(data: bytes, passphrase: str) -> Export:
    """UserError for a wrong passphrase or a damaged file, which nobody can tell apart; FormatError for another file,
    UnknownVersionError for one of a newer program."""
    if not data.startswith(_MAGIC):
        if is_export(data):
            raise UnknownVersionError(f"{_WHAT}: made by a newer cdr ({_first_line(data)}); upgrade")
        raise FormatError(f"{_WHAT}: this file is none; it would begin with {_MAGIC.decode().strip()!r}")
    if not _START_BYTES + 16 <= len(data) <= MAX_EXPORT_BYTES + _START_BYTES + 16:
        raise FormatError(f"{_WHAT}: {len(data)} bytes are no possible length; it is cut off, or something else")
    cost, salt = data[len(_MAGIC) :][: _COST.size], data[len(_MAGIC) + _COST.size :][:_SALT_BYTES]
    start, nonce = data[:_START_BYTES], data[_START_BYTES - _NONCE_BYTES : _START_BYTES]
    key = _key(passphrase, salt, *_COST.unpack(cost))
    try:
        plaintext = AESGCM(key).decrypt(nonce, data[_START_BYTES:], start)
    except InvalidTag:
        raise UserError(f"{_WHAT}: the passphrase is wrong, or the file is damaged; nothing was changed") from None
    body = decode(_Body, plaintext, _WHAT)
    return Export(body.tier, body.role, body.made_s, body.program, body.files, body.states)


def _first_line(data: bytes) -> str:
    return data[:64].partition(b"\n")[0].decode("ascii", "replace")


def _key(passphrase: str, salt: bytes, passes: int, lanes: int, memory_kib: int) -> bytes:
    """32 bytes; the cost is checked before it is paid."""
    if not (1 <= passes <= MAX_EXPORT_PASSES and 1 <= lanes <= 16 and 8 * lanes <= memory_kib <= MAX_EXPORT_MEMORY_KIB):
        raise FormatError(f"{_WHAT}: it asks for {passes} passes over {memory_kib} KiB; damaged, or hostile")
    try:
        kdf = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory_kib)
    except UnsupportedAlgorithm:
        raise UserError("this build of 'cryptography' lacks Argon2id; install one with OpenSSL 3.2 or newer") from None
    return kdf.derive(passphrase.encode("utf-8", "surrogateescape"))
