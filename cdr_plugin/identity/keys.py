"""Keys: Ed25519 to sign, HPKE (RFC 9180) to seal, and their one-line text forms.

The hybrid KEM is ML-KEM-768 with X25519: what is sealed today stays closed unless both are
broken. Its keys are the two keys one behind the other, ML-KEM first.
"""

from __future__ import annotations

import binascii
import os
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from hashlib import sha256
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from cdr_plugin.errors import AuthenticationError, FormatError, UserError
from cdr_plugin.identity.wire import frame
from cdr_plugin.model.blobs import Buffer

Entropy: TypeAlias = Callable[[int], bytes]
"""So many unpredictable bytes; tests pass a seeded one."""

SIGNATURE_BYTES = 64
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184

# A key of order 8 or less "verifies" signatures that nobody made (tried: y = 1 does). These are
# all y coordinates of such points, the two encodings beyond the field's prime included.
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


class KemSuite(IntEnum):
    """The HPKE suites; always with HKDF-SHA256 and AES-256-GCM."""

    X25519 = 1
    MLKEM768_X25519 = 2

    @property
    def label(self) -> str:
        return self.name.lower().replace("_", "-")

    @property
    def private_bytes(self) -> int:
        return 32 if self is KemSuite.X25519 else _MLKEM_SEED_BYTES + 32

    @property
    def public_bytes(self) -> int:
        return 32 if self is KemSuite.X25519 else _MLKEM_PUBLIC_BYTES + 32

    @property
    def overhead(self) -> int:
        """Bytes that sealing adds: the encapsulated key and the tag."""
        return (32 if self is KemSuite.X25519 else 1088 + 32) + 16


DEFAULT_SUITE = KemSuite.MLKEM768_X25519


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """The public half of a signing key: 32 bytes."""

    raw: bytes

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise FormatError(f"a verify key has 32 bytes, not {len(self.raw)}")
        if self.raw[:31] + bytes((self.raw[31] & 0x7F,)) in _SMALL_ORDER:
            raise FormatError("this verify key is weak: anybody could sign for it")

    @property
    def fingerprint(self) -> bytes:
        """32 bytes; the ID of a client or tier."""
        return sha256(self.raw).digest()

    @property
    def text(self) -> str:
        return _to_line("cdr-sign-ed25519", self.raw)

    @classmethod
    def from_text(cls, text: str) -> VerifyKey:
        return cls(_from_line("cdr-sign-ed25519", text))

    def verify(self, signature: Buffer, domain: bytes, *parts: Buffer) -> None:
        """AuthenticationError unless this key's owner signed exactly these parts in ``domain``."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, frame(domain, *parts))
        except (InvalidSignature, ValueError):
            raise AuthenticationError(
                f"signature by {short(self.fingerprint)} does not verify ({domain.decode()})"
            ) from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key; its 32-byte seed never appears in a ``repr``."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != 32:
            raise FormatError(f"a signing key has 32 bytes, not {len(self.raw)}")

    @classmethod
    def generate(cls, entropy: Entropy = os.urandom) -> SigningKey:
        return cls(entropy(32))

    @classmethod
    def from_text(cls, text: str) -> SigningKey:
        return cls(_from_line("cdr-sign-private-ed25519", text))

    def to_text(self) -> str:
        """The secret as one line, for the identity's file only."""
        return _to_line("cdr-sign-private-ed25519", self.raw)

    @property
    def public(self) -> VerifyKey:
        return VerifyKey(_signer(self.raw).public_key().public_bytes_raw())

    def sign(self, domain: bytes, *parts: Buffer) -> bytes:
        """64 bytes over ``domain`` and ``parts``, which cannot be shifted into each other."""
        return _signer(self.raw).sign(frame(domain, *parts))


@dataclass(frozen=True, slots=True)
class SealingPublicKey:
    """What others seal to. Key bytes that no KEM accepts are refused when they are first used."""

    suite: KemSuite
    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != self.suite.public_bytes:
            raise FormatError(f"a {self.suite.label} public key of {len(self.raw)} bytes")

    @property
    def fingerprint(self) -> bytes:
        """32 bytes over suite and key."""
        return sha256(bytes((self.suite,)) + self.raw).digest()

    @property
    def text(self) -> str:
        return _to_line(f"cdr-seal-{self.suite.label}", self.raw)

    @classmethod
    def from_text(cls, text: str) -> SealingPublicKey:
        suite = _suite_of("cdr-seal-", text)
        return cls(suite, _from_line(f"cdr-seal-{suite.label}", text))

    def seal(self, plaintext: Buffer, info: bytes) -> bytes:
        """``plaintext`` for the owner only, ``suite.overhead`` bytes longer; ``info`` is bound, not sent."""
        try:
            return _hpke(self.suite).encrypt(plaintext, _public(self.suite, self.raw), info=_info(self.suite, info))
        except ValueError as error:
            raise FormatError(f"sealing key {short(self.fingerprint)} is not usable: {error}") from None


@dataclass(frozen=True, slots=True)
class SealingKey:
    """What opens; never in a ``repr``."""

    suite: KemSuite
    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.raw) != self.suite.private_bytes:
            raise FormatError(f"a {self.suite.label} sealing key of {len(self.raw)} bytes")

    @classmethod
    def generate(cls, suite: KemSuite = DEFAULT_SUITE, entropy: Entropy = os.urandom) -> SealingKey:
        return cls(suite, entropy(suite.private_bytes))

    @classmethod
    def from_text(cls, text: str) -> SealingKey:
        suite = _suite_of("cdr-seal-private-", text)
        return cls(suite, _from_line(f"cdr-seal-private-{suite.label}", text))

    def to_text(self) -> str:
        """The secret as one line, for the identity's file only."""
        return _to_line(f"cdr-seal-private-{self.suite.label}", self.raw)

    @property
    def public(self) -> SealingPublicKey:
        return _public_half(self.suite, self.raw)

    def open(self, sealed: Buffer, info: bytes) -> bytes:
        """What was sealed to this key with this ``info``, or AuthenticationError."""
        try:
            return _hpke(self.suite).decrypt(sealed, _private(self.suite, self.raw), info=_info(self.suite, info))
        except (InvalidTag, ValueError):
            raise AuthenticationError(f"not sealed to {short(self.public.fingerprint)}, or damaged") from None


def short(fingerprint: bytes) -> str:
    """How messages and prompts show a fingerprint: 16 hex digits in groups of four."""
    digits = fingerprint.hex()
    return "-".join(digits[i : i + 4] for i in range(0, 16, 4))


def suite_from_label(label: str) -> KemSuite:
    """UserError when there is no such suite."""
    for suite in KemSuite:
        if suite.label == label:
            return suite
    known = ", ".join(suite.label for suite in KemSuite)
    raise UserError(f"{label[:40]!r} is no sealing suite (there are: {known})")


def _info(suite: KemSuite, info: bytes) -> bytes:
    return frame(b"cdr/1 hpke", bytes((suite,)), info)


@cache
def _hpke(suite: KemSuite) -> hpke.Suite:
    kem = hpke.KEM.X25519 if suite is KemSuite.X25519 else hpke.KEM.MLKEM768_X25519
    try:
        return hpke.Suite(kem, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    except UnsupportedAlgorithm:
        raise UserError(f"this build of 'cryptography' lacks {suite.label}; use suite x25519") from None


# Making key objects costs 20 to 120 microseconds; a process uses a handful of keys, over and over.
@cache
def _signer(raw: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(raw)


@cache
def _private(suite: KemSuite, raw: bytes) -> X25519PrivateKey | hpke.MLKEM768X25519PrivateKey:
    x25519 = X25519PrivateKey.from_private_bytes(raw[-32:])
    if suite is KemSuite.X25519:
        return x25519
    return hpke.MLKEM768X25519PrivateKey(MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED_BYTES]), x25519)


@cache
def _public_half(suite: KemSuite, raw: bytes) -> SealingPublicKey:
    public = X25519PrivateKey.from_private_bytes(raw[-32:]).public_key().public_bytes_raw()
    if suite is KemSuite.MLKEM768_X25519:
        mlkem = MLKEM768PrivateKey.from_seed_bytes(raw[:_MLKEM_SEED_BYTES]).public_key()
        public = mlkem.public_bytes_raw() + public
    return SealingPublicKey(suite, public)


def _public(suite: KemSuite, raw: bytes) -> X25519PublicKey | hpke.MLKEM768X25519PublicKey:
    x25519 = X25519PublicKey.from_public_bytes(raw[-32:])
    if suite is KemSuite.X25519:
        return x25519
    return hpke.MLKEM768X25519PublicKey(MLKEM768PublicKey.from_public_bytes(raw[:_MLKEM_PUBLIC_BYTES]), x25519)


def _to_line(label: str, raw: bytes) -> str:
    return f"{label} {b64encode(raw).decode()}"


def _from_line(label: str, text: str) -> bytes:
    found, _, encoded = text.strip().partition(" ")
    if found != label:
        raise FormatError(f"a line starting with {label!r} is expected, found {found[:40]!r}")
    try:
        return b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise FormatError(f"the {label} line is damaged: not base64") from None


def _suite_of(prefix: str, text: str) -> KemSuite:
    label = text.strip().partition(" ")[0]
    for suite in KemSuite:
        if label == prefix + suite.label:
            return suite
    raise FormatError(f"a sealing key starting with {prefix!r} is expected, found {label[:40]!r}")
