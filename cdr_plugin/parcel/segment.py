"""Segments: sealed, signed and numbered objects of a parcel.

::

    prefix (clear, 56)  |  header (HPKE, 160 + overhead)  |  chunk 0  |  chunk 1  | ... | last chunk

The header carries the parcel's key, the sender and its signature over that key, sealed to the
receiver with the prefix and the group in HPKE's ``info``. Chunks are AES-256-GCM in the STREAM
construction (Hoang, Reyhanitabar, Rogaway, Vizar 2015): the nonce holds the chunk's number and
whether it is the last, so chunks cannot be dropped, swapped, repeated or cut off. Their
associated data is the hash of prefix and sealed header, their key is derived for this parcel,
index and salt. Nothing of the plaintext is touched before sender and signature are accepted.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cdr_plugin.errors import AuthenticationError, FormatError, UnknownVersionError
from cdr_plugin.identity.documents import Accept
from cdr_plugin.identity.keys import (
    SIGNATURE_BYTES,
    Entropy,
    KemSuite,
    SealingKey,
    SealingPublicKey,
    SigningKey,
    VerifyKey,
)
from cdr_plugin.identity.wire import MAJOR_VERSION, ObjectKind, check_start, frame, group_hash
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import (
    CHUNK_BYTES,
    HEADER_BYTES,
    MAX_INDEX,
    MAX_SEGMENT_OBJECT_BYTES,
    MAX_SEGMENT_PLAINTEXT_BYTES,
    PARCEL_ID_BYTES,
    PARCEL_KEY_BYTES,
    SALT_BYTES,
    SEGMENT_PREFIX_BYTES,
    TAG_BYTES,
)

_SIGN_DOMAIN = b"cdr/1 parcel"
_SEAL_DOMAIN = b"cdr/1 segment header"
_KEY_DOMAIN = b"cdr/1 segment key"
_SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES
MAX_START_BYTES = SEGMENT_PREFIX_BYTES + HEADER_BYTES + max(suite.overhead for suite in KemSuite) + TAG_BYTES
"""Prefix and sealed header of either suite, and what every segment has behind them at least."""


@dataclass(frozen=True, slots=True)
class SegmentPrefix:
    """The clear start of a segment: what it claims to be, before any check of a seal."""

    version: int
    kind: ObjectKind
    suite: KemSuite
    parcel_id: bytes
    index: int
    salt: bytes
    raw: bytes = field(repr=False)

    @property
    def label(self) -> str:
        """How messages name this segment."""
        return segment_label(self.parcel_id, self.index)


@dataclass(frozen=True, slots=True)
class OpenSegment:
    """An authentic segment. ``plaintext`` belongs to the caller."""

    prefix: SegmentPrefix
    sender: VerifyKey
    plaintext: bytearray


@dataclass(frozen=True, slots=True)
class ParcelSecret:
    """ID and key of a parcel: what its own sender keeps in order to read its spool again."""

    id: bytes
    key: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """48 secret bytes for the client's state."""
        return self.id + self.key

    @classmethod
    def from_bytes(cls, data: bytes) -> ParcelSecret:
        if len(data) != PARCEL_ID_BYTES + PARCEL_KEY_BYTES:
            raise FormatError(f"a parcel secret has 48 bytes, not {len(data)}")
        return cls(data[:PARCEL_ID_BYTES], data[PARCEL_ID_BYTES:])


class Parcel:
    """A parcel being written by one run of one process. ``seal`` may be called by several threads."""

    def __init__(
        self,
        secret: ParcelSecret,
        sender: SigningKey,
        group: str,
        receiver: SealingPublicKey,
        entropy: Entropy = os.urandom,
    ) -> None:
        self.secret = secret
        self._receiver = receiver
        self._group = group_hash(group)
        self._entropy = entropy
        signature = sender.sign(_SIGN_DOMAIN, *_signed(self._group, receiver, secret))
        self._header = secret.key + sender.public.raw + self._group + signature

    @classmethod
    def new(cls, sender: SigningKey, group: str, receiver: SealingPublicKey, entropy: Entropy = os.urandom) -> Parcel:
        """A parcel with a fresh random ID and key."""
        secret = ParcelSecret(entropy(PARCEL_ID_BYTES), entropy(PARCEL_KEY_BYTES))
        return cls(secret, sender, group, receiver, entropy)

    @property
    def id(self) -> bytes:
        return self.secret.id

    def seal(self, index: int, plaintext: Buffer) -> bytearray:
        """The whole object of segment ``index``. The caller never writes two of one index."""
        if len(plaintext) > MAX_SEGMENT_PLAINTEXT_BYTES or not 0 <= index <= MAX_INDEX:
            raise FormatError(f"{segment_label(self.id, index)}: {len(plaintext)} bytes do not fit in a segment")
        prefix = b"".join(
            (
                bytes((MAJOR_VERSION, ObjectKind.SEGMENT, self._receiver.suite, 0)),
                self.id,
                index.to_bytes(4, "big"),
                self._entropy(SALT_BYTES),
            )
        )
        sealed = self._receiver.seal(self._header, _seal_info(prefix, self._group))
        return _encrypt(prefix + sealed, _segment_key(self.secret, prefix), plaintext)


def segment_label(parcel_id: bytes, index: int) -> str:
    """How messages name a segment: the start of its parcel's ID, and its index."""
    return f"segment {parcel_id.hex()[:12]}/{index:08x}"


def segment_object_bytes(plaintext_bytes: int, suite: KemSuite) -> int:
    """The size of the object that ``Parcel.seal`` makes of so many bytes."""
    chunks = max(1, -(-plaintext_bytes // CHUNK_BYTES))
    return SEGMENT_PREFIX_BYTES + HEADER_BYTES + suite.overhead + plaintext_bytes + chunks * TAG_BYTES


def read_prefix(data: Buffer, name: str = "segment") -> SegmentPrefix:
    """What a segment claims to be; cheap, and also for the first 56 bytes alone.

    UnknownVersionError for other major versions, kinds and suites, FormatError for other bytes.
    """
    check_start(data, ObjectKind.SEGMENT, SEGMENT_PREFIX_BYTES, MAX_SEGMENT_OBJECT_BYTES, name)
    raw = bytes(data[:SEGMENT_PREFIX_BYTES])
    if raw[2] not in KemSuite.__members__.values():
        raise UnknownVersionError(f"{name}: sealing suite {raw[2]} is not known; left where it is, upgrade cdr")
    if raw[3] != 0:
        raise FormatError(f"{name}: reserved byte is {raw[3]}, expected 0")
    return SegmentPrefix(
        raw[0],
        ObjectKind.SEGMENT,
        KemSuite(raw[2]),
        raw[4:20],
        int.from_bytes(raw[20:24], "big"),
        raw[24:56],
        raw,
    )


def open_segment(
    data: Buffer,
    *,
    group: str,
    keys: Sequence[SealingKey],
    accept: Accept,
    parcel_id: bytes,
    index: int,
) -> OpenSegment:
    """The plaintext of a segment, once everything about it is proved.

    ``keys``: ours for ``group``, newest first. ``accept`` judges the sender after its signature
    has verified and before anything is decrypted. ``parcel_id`` and ``index``: where the object
    was found. AuthenticationError or FormatError name the segment and what is wrong with it.
    """
    label = segment_label(parcel_id, index)
    prefix = read_prefix(data, label)
    if (prefix.parcel_id, prefix.index) != (parcel_id, index):
        raise AuthenticationError(f"{label}: this object is {prefix.label}, under a wrong name")
    body = _header_end(data, prefix)
    sealed = memoryview(data)[SEGMENT_PREFIX_BYTES:body]
    header, key = _open_header(sealed, prefix, group, keys)
    secret = ParcelSecret(parcel_id, header[:32])
    sender = _verify_header(header, prefix, secret, group, key.public)
    accept(sender)
    return OpenSegment(prefix, sender, _decrypt(data, prefix, secret, body))


def read_sender(
    start: Buffer, *, group: str, keys: Sequence[SealingKey], parcel_id: bytes, index: int
) -> VerifyKey:
    """Who sealed a segment, proved by its first ``MAX_START_BYTES`` alone; nothing is decrypted but the header."""
    label = segment_label(parcel_id, index)
    prefix = read_prefix(start, label)
    if (prefix.parcel_id, prefix.index) != (parcel_id, index):
        raise AuthenticationError(f"{label}: this object is {prefix.label}, under a wrong name")
    sealed = memoryview(start)[SEGMENT_PREFIX_BYTES : _header_end(start, prefix)]
    header, key = _open_header(sealed, prefix, group, keys)
    return _verify_header(header, prefix, ParcelSecret(parcel_id, header[:32]), group, key.public)


def reopen_own_segment(data: Buffer, secret: ParcelSecret, index: int) -> bytearray:
    """The plaintext of a segment that this client sealed itself; the header stays closed, but a
    change of any byte, also of the sealed header, is an AuthenticationError."""
    label = segment_label(secret.id, index)
    prefix = read_prefix(data, label)
    if (prefix.parcel_id, prefix.index) != (secret.id, index):
        raise AuthenticationError(f"{label}: this object is {prefix.label}, under a wrong name")
    return _decrypt(data, prefix, secret, _header_end(data, prefix))


def _header_end(data: Buffer, prefix: SegmentPrefix) -> int:
    end = SEGMENT_PREFIX_BYTES + HEADER_BYTES + prefix.suite.overhead
    if len(data) < end + TAG_BYTES:
        raise FormatError(f"{prefix.label}: cut off after {len(data)} bytes")
    return end


def _open_header(
    sealed: memoryview, prefix: SegmentPrefix, group: str, keys: Sequence[SealingKey]
) -> tuple[bytes, SealingKey]:
    info = _seal_info(prefix.raw, group_hash(group))
    for key in keys:
        if key.suite is prefix.suite:
            try:
                return key.open(sealed, info), key
            except AuthenticationError:
                continue  # perhaps sealed to an older key of ours
    raise AuthenticationError(
        f"{prefix.label}: none of our {len(keys)} keys of {group} opens it: damaged, or for another receiver"
    )


def _verify_header(
    header: bytes, prefix: SegmentPrefix, secret: ParcelSecret, group: str, receiver: SealingPublicKey
) -> VerifyKey:
    if header[64:96] != group_hash(group):
        raise AuthenticationError(f"{prefix.label}: its header is of another group than {group}")
    try:
        sender = VerifyKey(header[32:64])
        signature = header[96 : 96 + SIGNATURE_BYTES]
        sender.verify(signature, _SIGN_DOMAIN, *_signed(group_hash(group), receiver, secret))
    except (AuthenticationError, FormatError) as error:
        raise AuthenticationError(f"{prefix.label}: {error}") from None
    return sender


def _signed(group: bytes, receiver: SealingPublicKey, secret: ParcelSecret) -> tuple[bytes, ...]:
    """What the sender's signature covers, besides its domain."""
    return group, bytes((receiver.suite,)), receiver.raw, secret.id, sha256(secret.key).digest()


def _seal_info(prefix: bytes, group: bytes) -> bytes:
    return frame(_SEAL_DOMAIN, prefix, group)


def _segment_key(secret: ParcelSecret, prefix: bytes) -> AESGCM:
    info = frame(_KEY_DOMAIN, secret.id, prefix[20:24])
    return AESGCM(HKDF(SHA256(), 32, salt=prefix[24:56], info=info).derive(secret.key))


def _nonce(chunk: int, last: bool) -> bytes:
    return chunk.to_bytes(11, "big") + bytes((last,))


def _encrypt(start: bytes, cipher: AESGCM, plaintext: Buffer) -> bytearray:
    """``start`` and the chunks behind it, in one allocation; pure."""
    chunks = max(1, -(-len(plaintext) // CHUNK_BYTES))
    out = bytearray(len(start) + len(plaintext) + chunks * TAG_BYTES)
    out[: len(start)] = start
    bound = sha256(start).digest()
    source, target = memoryview(plaintext).cast("B"), memoryview(out)[len(start) :]
    for i in range(chunks):
        piece = source[i * CHUNK_BYTES : (i + 1) * CHUNK_BYTES]
        at = i * _SEALED_CHUNK
        cipher.encrypt_into(_nonce(i, i == chunks - 1), piece, bound, target[at : at + len(piece) + TAG_BYTES])
    return out


def _decrypt(data: Buffer, prefix: SegmentPrefix, secret: ParcelSecret, body: int) -> bytearray:
    view = memoryview(data)
    source = view[body:]
    chunks = -(-len(source) // _SEALED_CHUNK)
    last = len(source) - (chunks - 1) * _SEALED_CHUNK
    size = len(source) - chunks * TAG_BYTES
    if last < TAG_BYTES or (last == TAG_BYTES and chunks > 1) or size > MAX_SEGMENT_PLAINTEXT_BYTES:
        raise FormatError(f"{prefix.label}: {len(data)} bytes are no possible length of a segment")
    cipher = _segment_key(secret, prefix.raw)
    bound = sha256(view[:body]).digest()
    out = bytearray(size)
    target = memoryview(out)
    for i in range(chunks):
        piece = source[i * _SEALED_CHUNK : (i + 1) * _SEALED_CHUNK]
        at = i * CHUNK_BYTES
        try:
            cipher.decrypt_into(_nonce(i, i == chunks - 1), piece, bound, target[at : at + len(piece) - TAG_BYTES])
        except InvalidTag:
            raise AuthenticationError(
                f"{prefix.label}: chunk {i + 1} of {chunks} is damaged or does not belong here; send it again"
            ) from None
    return out
