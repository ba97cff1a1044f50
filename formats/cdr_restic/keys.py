"""Key files: the master key, sealed under a password by way of scrypt."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import msgspec

from cdr_plugin.errors import (
    AuthenticationError,
    CdrError,
    FormatError,
    IntegrityError,
    NotFoundError,
    UserError,
    WrongPasswordError,
)
from cdr_plugin.model.trees import go_json
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.host import host_name, now_text, user_name
from cdr_restic.storage import FileKind, Storage

MAX_KEYS = 20
"""How many keys are tried, restic's limit; each costs about half a second."""
MAX_KEY_BYTES = 64 * 1024
"""restic's have about 450; host and user names are all that varies."""
_SALT_BYTES = 64
_MAX_INT32 = 2**31 - 1
_MAX_WORK = 1 << 30
"""N * r * p. restic's own are below 2**23, half a second; this is some minutes, which nobody can
interrupt. restic itself would try for years."""
_OPEN_S = 0.5
"""What restic lets one password attempt cost the machine that makes the key."""

_Positive = Annotated[int, msgspec.Meta(ge=1, le=_MAX_INT32)]


@dataclass(frozen=True, slots=True)
class Scrypt:
    """scrypt's parameters. ``check`` before use: they come from the storage, unauthenticated."""

    n: int
    r: int
    p: int

    def check(self) -> None:
        """FormatError outside restic's limits, which keep memory below 2 GiB."""
        n, r, p = self.n, self.r, self.p
        if n <= 1 or n & (n - 1) or n > _MAX_INT32:
            raise FormatError(f"scrypt N = {n} is no power of two in range")
        limit_r = min(_MAX_INT32 // 128 // p, _MAX_INT32 // 256) if p >= 1 else 0
        if r < 1 or p < 1 or r * p >= 1 << 30 or r > limit_r or n > _MAX_INT32 // 128 // r:
            raise FormatError(f"scrypt parameters N = {n}, r = {r}, p = {p} are out of range")
        if n * r * p > _MAX_WORK:
            raise FormatError(f"scrypt parameters N = {n}, r = {r}, p = {p} would take many minutes")

    def derive(self, password: str, salt: bytes) -> KeyMaterial:
        self.check()
        memory = 128 * self.r * (self.n + self.p + 2) + 4096
        try:
            key = hashlib.scrypt(
                password.encode("utf-8", "surrogateescape"),
                salt=salt,
                n=self.n,
                r=self.r,
                p=self.p,
                maxmem=min(memory, _MAX_INT32),
                dklen=64,
            )
        except (ValueError, MemoryError) as error:
            raise FormatError(f"scrypt with N = {self.n}, r = {self.r}, p = {self.p}: {error}") from None
        return KeyMaterial(key[:32], key[32:48], key[48:])


def measured_scrypt() -> Scrypt:
    """Parameters that cost this machine half a second, chosen as restic does."""
    n, r = 32768, 8
    while (took := _time_scrypt(Scrypt(n, r, 1))) > _OPEN_S and n > 1024:
        n //= 2
    return Scrypt(n, r, max(int(_OPEN_S / took), 1))


def _time_scrypt(parameters: Scrypt) -> float:
    begin = time.perf_counter()
    parameters.derive("", bytes(_SALT_BYTES))
    return max(time.perf_counter() - begin, 1e-3)


class KeyFile(msgspec.Struct):
    """A key file, field for field. Whoever can write to the storage can have made it."""

    created: str
    username: str
    hostname: str
    kdf: str
    N: _Positive
    r: _Positive
    p: _Positive
    salt: bytes
    data: bytes


class _Mac(msgspec.Struct):
    k: bytes
    r: bytes


class _KeyData(msgspec.Struct):
    mac: _Mac
    encrypt: bytes


_file_decoder = msgspec.json.Decoder(KeyFile)
_data_decoder = msgspec.json.Decoder(_KeyData)


def encode_key(
    master: KeyMaterial, password: str, parameters: Scrypt, user: str = "", host: str = ""
) -> bytes:
    """A key file that opens ``master`` with ``password``; by default it names who makes it."""
    salt = os.urandom(_SALT_BYTES)
    data = msgspec.json.encode(_KeyData(_Mac(master.mac_k, master.mac_r), master.encrypt))
    sealed = Sealer(parameters.derive(password, salt)).seal(data)
    n, r, p = parameters.n, parameters.r, parameters.p
    key = KeyFile(now_text(), user or user_name(), host or host_name(), "scrypt", n, r, p, salt, sealed)
    return go_json(msgspec.json.encode(key))


def parse_key(key_file: bytes) -> KeyFile:
    """What a key file says; FormatError."""
    try:
        return _file_decoder.decode(key_file)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(str(error)) from None


def decode_key(key_file: bytes, password: str) -> KeyMaterial:
    """The master key; AuthenticationError when the password does not fit, FormatError."""
    key = parse_key(key_file)
    if key.kdf != "scrypt":
        raise FormatError(f"key derivation {key.kdf[:20]!r} instead of 'scrypt'")
    if len(key.salt) != _SALT_BYTES:
        raise FormatError(f"salt of {len(key.salt)} bytes instead of {_SALT_BYTES}")
    return _decode_master(Sealer(Scrypt(key.N, key.r, key.p).derive(password, key.salt)).open(key.data))


def _decode_master(data: bytes) -> KeyMaterial:
    try:
        key = _data_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"sealed part: {error}") from None
    parts = (key.encrypt, key.mac.k, key.mac.r)
    if tuple(map(len, parts)) != (32, 16, 16) or not all(map(any, parts)):
        raise FormatError("sealed part: a key is empty or of another length")
    return KeyMaterial(*parts)


class OpenedKey(NamedTuple):
    """The master key, and the ID of the key file that opened it."""

    id: str
    master: KeyMaterial


def find_key(storage: Storage, password: str, hint: str = "") -> OpenedKey:
    """The key that ``password`` opens; WrongPasswordError when there is none.

    Tries the one whose ID begins with ``hint``, then at most 20 by ID. One that is damaged ends the
    search, as it does in restic, unless it is the hinted one.
    """
    names = sorted(storage.list(FileKind.KEYS))
    if not names:
        raise IntegrityError(f"repository {storage.location} has no key file: nothing in it can be read")
    hinted = [name for name in names if hint and name.startswith(hint)]
    if len(hinted) == 1:
        with contextlib.suppress(IntegrityError, NotFoundError):
            return _open_key(storage, hinted[0], password)
    for name in [name for name in names if [name] != hinted][:MAX_KEYS]:
        try:
            return _open_key(storage, name, password)
        except (AuthenticationError, NotFoundError):
            continue  # or removed since it was listed
    tried = f"; only {MAX_KEYS} were tried, name another one with --key-hint" if len(names) > MAX_KEYS else ""
    raise WrongPasswordError(
        f"the password opens no key of repository {storage.location} ({len(names)} found{tried}); "
        "check the password"
    )


def _open_key(storage: Storage, name: str, password: str) -> OpenedKey:
    key = load_key(storage, name)
    try:
        return OpenedKey(name, decode_key(key, password))
    except FormatError as error:
        raise FormatError(f"{storage.describe(FileKind.KEYS, name)} is damaged: {error}") from None


def load_key(storage: Storage, name: str) -> bytes:
    """A key file; IntegrityError when it is larger than any, NotFoundError."""
    size = storage.size(FileKind.KEYS, name)
    if size > MAX_KEY_BYTES:
        raise IntegrityError(f"{storage.describe(FileKind.KEYS, name)}: {size} bytes are too many for a key")
    return storage.load(FileKind.KEYS, name)


def checked_password(password: str) -> str:
    """A new password as it is; UserError when it is empty."""
    if not password:
        raise UserError("an empty password protects nothing: choose another one")
    return password


def add_key(
    storage: Storage, master: KeyMaterial, password: str, parameters: Scrypt, user: str = "", host: str = ""
) -> str:
    """Store a further key and try it; its ID. A key that does not open again is removed.
    UserError for an empty password."""
    key = encode_key(master, checked_password(password), parameters, user, host)
    name = hashlib.sha256(key).hexdigest()
    try:
        storage.save(FileKind.KEYS, name, key)
        if decode_key(storage.load(FileKind.KEYS, name), password) != master:
            raise IntegrityError(f"{storage.describe(FileKind.KEYS, name)} came back with another key")
    except BaseException:
        with contextlib.suppress(CdrError):
            storage.remove(FileKind.KEYS, name)
        raise
    return name
