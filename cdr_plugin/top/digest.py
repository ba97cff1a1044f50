"""Telling tiers that reduce which blobs are here, so that one branch does not send what another has sent.

A hint: what is told may be gone, and what is here may not be told. Told are the blobs that other senders of the
group delivered, as a base when an epoch begins, and then what each pass has added. Increments are small, so an epoch
ends when there are many of them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING

from cdr_plugin.contracts import Transport
from cdr_plugin.identity.register import Client, ClientState, SenderKind
from cdr_plugin.parcel.digest import Digest, digest_hash, write_digest, write_digest_part
from cdr_plugin.parcel.limits import BLOB_REF_BYTES, MAX_DIGEST_HASHES, MAX_DIGEST_PARTS
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id, part_name
from cdr_plugin.parcel.sealed import Author
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of

if TYPE_CHECKING:
    from cdr_plugin.top.tier import TopTier

MAX_INCREMENTS = 64
"""Parts behind the base, each an object of its own; then a new epoch begins."""
_EPOCH_BYTES, _KEY_BYTES, _HASH_BYTES = 16, 32, 32


def publish_digests(
    top: TopTier, added: Mapping[bytes, bytearray], inboxes: Inboxes, listings: Sequence[Inbox]
) -> None:
    """Tell every approved tier below what was added by others. ``added``: per sender (a fingerprint) the keys of the
    blobs that this pass stored, end to end."""
    for tier in top.register.clients(top.group):
        if tier.kind is SenderKind.TIER and tier.state is ClientState.APPROVED:
            homes = homes_of(folder_id(tier.key, top.group), inboxes, listings)
            others = [keys for sender, keys in added.items() if keys and sender != tier.fingerprint]
            _Publisher(top, tier, inboxes, homes).publish(others)


def _cut(keys: bytearray) -> Iterator[bytes]:
    return (bytes(keys[at : at + BLOB_REF_BYTES]) for at in range(0, len(keys), BLOB_REF_BYTES))


def digest_fact(tier: Client) -> str:
    """The name in the state for what was told to a tier: epoch, key, hashes of the parts, how many are the base."""
    return f"digest:{tier.fingerprint.hex()}"


class _Publisher:
    def __init__(self, top: TopTier, tier: Client, inboxes: Inboxes, homes: Sequence[Transport]) -> None:
        self._top = top
        self._tier = tier
        self._inboxes = inboxes
        self._homes = homes
        self._folder = folder_id(tier.key, top.group)
        self._fact = digest_fact(tier)
        self._author = Author(top.identity.signing, tier.key, tier.sealing, top.group, int(time.time()))

    def publish(self, added: Sequence[bytearray]) -> None:
        """Parts first, the manifest last, then the note of what was told."""
        known = self._top.state.get(self._fact)
        if not known or len(known) // _HASH_BYTES > MAX_INCREMENTS + int.from_bytes(known[-4:], "big"):
            self._begin()
        elif added:
            epoch, key, base, parts = self._unpack(known)
            self._write(epoch, key, parts, base, chain.from_iterable(map(_cut, added)))

    def _begin(self) -> None:
        epoch, key = secrets.token_bytes(_EPOCH_BYTES), secrets.token_bytes(_KEY_BYTES)
        self._write(epoch, key, [], None, self._top.state.possessed_by_others(self._below()))

    def _below(self) -> list[bytes]:
        clients = self._top.register.clients(self._top.group)
        return [client.fingerprint for client in clients if client.via == self._tier.fingerprint]

    def _write(
        self, epoch: bytes, key: bytes, parts: list[bytes], base: int | None, blobs: Iterable[bytes]
    ) -> None:
        for batch in _batches(blobs):
            if len(parts) == MAX_DIGEST_PARTS:
                break
            serial = self._top.state.next_serial(self._fact)
            hashes = (digest_hash(key, blob) for blob in batch)
            data = write_digest_part(epoch, len(parts), serial, hashes, self._author)
            self._put(part_name(self._folder, Answer.DIGEST, len(parts)), data)
            parts.append(sha256(data).digest())
        digest = Digest(self._top.state.next_serial(self._fact), epoch, key, parts)
        self._put(answer_name(self._folder, Answer.DIGEST), write_digest(digest, self._author))
        if not self._inboxes.failures:
            count = len(parts) if base is None else base
            self._top.state.put({self._fact: epoch + key + b"".join(parts) + count.to_bytes(4, "big")})

    def _put(self, name: str, data: bytes) -> None:
        for inbox in self._inboxes.reachable(self._homes):
            with self._inboxes.using(inbox):
                inbox.put(name, data, overwrite=True)

    def _unpack(self, known: bytes) -> tuple[bytes, bytes, int, list[bytes]]:
        epoch, key = known[:_EPOCH_BYTES], known[_EPOCH_BYTES : _EPOCH_BYTES + _KEY_BYTES]
        packed = known[_EPOCH_BYTES + _KEY_BYTES : -4]
        parts = [packed[at : at + _HASH_BYTES] for at in range(0, len(packed), _HASH_BYTES)]
        return epoch, key, int.from_bytes(known[-4:], "big"), parts


def _batches(blobs: Iterable[bytes]) -> Iterator[list[bytes]]:
    source = iter(blobs)
    while batch := list(islice(source, MAX_DIGEST_HASHES)):
        yield batch
