"""The config file: format version, repository ID and chunker polynomial."""

from __future__ import annotations

import os
from dataclasses import dataclass

import msgspec

from cdr_plugin.errors import (
    AuthenticationError,
    FormatError,
    IntegrityError,
    UnknownVersionError,
    UserError,
)
from cdr_plugin.kernel.polynomial import DEGREE, is_irreducible
from cdr_restic.crypto import KeyMaterial, Sealer
from cdr_restic.storage import FileKind, Storage

VERSIONS = (1, 2)


@dataclass(frozen=True, slots=True)
class RepositoryConfig:
    """``chunker`` is empty in restic's own repositories; other programs may name another one."""

    version: int
    id: str
    polynomial: int
    chunker: str = ""

    def check_writable(self, location: str) -> None:
        """UserError when another program's chunker rules this repository."""
        if self.chunker not in ("", "rabin"):
            raise UserError(
                f"repository {location} uses the chunker {self.chunker[:20]!r}, which is not restic's: "
                "it can be read here, but not written"
            )


class _Config(msgspec.Struct, omit_defaults=True):
    version: int
    id: str
    chunker_polynomial: str
    chunker: str = ""


_decoder = msgspec.json.Decoder(_Config)


def new_config(version: int, polynomial: int) -> RepositoryConfig:
    return RepositoryConfig(version, os.urandom(32).hex(), polynomial)


def encode_config(config: RepositoryConfig) -> bytes:
    return msgspec.json.encode(_Config(config.version, config.id, f"{config.polynomial:x}", config.chunker))


def decode_config(data: bytes) -> RepositoryConfig:
    """FormatError; UnknownVersionError for versions other than 1 and 2."""
    try:
        config = _decoder.decode(data)
        id_ = bytes.fromhex(config.id)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FormatError(str(error)) from None
    if config.version not in VERSIONS:
        raise UnknownVersionError(f"repository format version {config.version}; this program knows 1 and 2")
    if len(id_) != 32:
        raise FormatError(f"{config.id[:80]!r} is not a repository ID")
    polynomial = parse_polynomial(config.chunker_polynomial)
    return RepositoryConfig(config.version, id_.hex(), polynomial, config.chunker)


def parse_polynomial(text: str) -> int:
    """An irreducible polynomial of degree 53 from hex; FormatError."""
    if len(text) != 14 or not text.isalnum() or not text.isascii():
        raise FormatError(f"{text[:40]!r} is not a chunker polynomial")
    try:
        polynomial = int(text, 16)
    except ValueError:
        raise FormatError(f"{text[:40]!r} is not a chunker polynomial") from None
    if polynomial.bit_length() - 1 != DEGREE or not is_irreducible(polynomial):
        raise FormatError(f"chunker polynomial {text} is not irreducible of degree {DEGREE}")
    return polynomial


def load_config(storage: Storage, key: KeyMaterial) -> RepositoryConfig:
    """The config, which the key found must open: a wrong password cannot come this far."""
    sealed = storage.load(FileKind.CONFIG, "")
    try:
        return decode_config(Sealer(key).open(sealed))
    except UnknownVersionError as error:
        raise UnknownVersionError(f"repository {storage.location}: {error}") from None
    except FormatError as error:
        raise FormatError(f"config of repository {storage.location} is damaged: {error}") from None
    except AuthenticationError as error:
        raise IntegrityError(
            f"config of repository {storage.location} is damaged, or its key is: {error}; "
            "the password is right"
        ) from None


def save_config(storage: Storage, key: KeyMaterial, config: RepositoryConfig) -> None:
    storage.save(FileKind.CONFIG, "", Sealer(key).seal(encode_config(config)))
