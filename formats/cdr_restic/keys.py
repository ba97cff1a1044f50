"""Key files: the master key, sealed under a password by way of scrypt."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from typing import Annotated

import msgspec

from cdr_plugin.errors import AuthenticationError, CdrError, FormatError, IntegrityError, WrongPasswordError
from cdr_plugin.model.trees import go_json
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.host import host_name, now_text, user_name
from cdr_restic.storage import FileKind, Storage

MAX_KEYS = 20
"""How many keys are tried, restic's limit; each costs about half a second."""
_SALT_BYTES = 64
_MAX_INT32 = 2**31 - 1
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


class _KeyFile(msgspec.Struct):
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


_file_decoder = msgspec.json.Decoder(_KeyFile)
_data_decoder = msgspec.json.Decoder(_KeyData)


def encode_key(master: KeyMaterial, password: str, parameters: Scrypt) -> bytes:
    """A key file that opens ``master`` with ``password``."""
    salt = os.urandom(_SALT_BYTES)
    data = msgspec.json.encode(_KeyData(_Mac(master.mac_k, master.mac_r), master.encrypt))
    sealed = Sealer(parameters.derive(password, salt)).seal(data)
    n, r, p = parameters.n, parameters.r, parameters.p
    key = _KeyFile(now_text(), user_name(), host_name(), "scrypt", n, r, p, salt, sealed)
    return go_json(msgspec.json.encode(key))


def decode_key(key_file: bytes, password: str) -> KeyMaterial:
    """The master key; AuthenticationError when the password does not fit, FormatError."""
    try:
        key = _file_decoder.decode(key_file)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(str(error)) from None
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


def find_key(storage: Storage, password: str) -> KeyMaterial:
    """The master key. Tries at most 20 keys, in listing order; WrongPasswordError when none fits.
    A key that is damaged ends the search, as it does in restic."""
    names = list(storage.list(FileKind.KEYS))
    if not names:
        raise IntegrityError(f"repository {storage.location} has no key file: nothing in it can be read")
    for name in names[:MAX_KEYS]:
        try:
            return decode_key(storage.load(FileKind.KEYS, name), password)
        except AuthenticationError:
            continue
        except FormatError as error:
            raise FormatError(f"{storage.describe(FileKind.KEYS, name)} is damaged: {error}") from None
    tried = f"; only the first {MAX_KEYS} were tried" if len(names) > MAX_KEYS else ""
    raise WrongPasswordError(
        f"the password opens no key of repository {storage.location} ({len(names)} found{tried}); "
        "check the password"
    )


def add_key(storage: Storage, master: KeyMaterial, password: str, parameters: Scrypt) -> str:
    """Store a further key and try it; its name. A key that does not open again is removed."""
    key = encode_key(master, password, parameters)
    name = hashlib.sha256(key).hexdigest()
    storage.save(FileKind.KEYS, name, key)
    try:
        if decode_key(storage.load(FileKind.KEYS, name), password) != master:
            raise IntegrityError(f"{storage.describe(FileKind.KEYS, name)} came back with another key")
    except CdrError:
        storage.remove(FileKind.KEYS, name)
        raise
    return name
