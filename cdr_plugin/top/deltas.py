"""Decoding payloads that copy from other blobs, where possession and the repository are known.

A client may copy only from what it possesses: knowing or guessing a hash must not read other people's
bytes. So possession of every base is checked before anything is decoded, and a base that somebody else
delivered is answered as one that nobody has.

Whatever does not come out right is not delivered, and nothing worse: the version that refers to it finds
it missing, and the client sends it whole.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from cdr_plugin.contracts import RepositoryPass
from cdr_plugin.errors import IntegrityError, NotFoundError, PayloadError
from cdr_plugin.model.blobs import PLAIN, BlobId, BlobType, Payload
from cdr_plugin.top.state import ClientRows
from cdr_plugin.top.verify import Delta, VerifiedBlob, Verifier

RECENT_BYTES = 64 * 1024 * 1024
"""Of blobs kept in memory. Versions of a file share their bases; what was added last is a base of what comes
next, and reading it from the repository costs a flush."""
_READ_BYTES = 512 * 1024 * 1024
"""What one payload may make us read, besides four times what it decodes to: 64 of the largest blobs, each once."""
PASS_BYTES = 256 * 1024 * 1024 * 1024
"""What deltas of one client may make us read and write in one pass. A segment holds 220,000 payloads that copy 3 bytes
each from a blob of 8 MiB (12 ms each: 45 minutes, the repository being locked), or all but one byte (1.8 TB to store).
One of 8 MiB in which every blob of 1 MiB has one change comes to 150 GB. What is above is asked for whole."""


class Deltas:
    """Decodes for one client in one pass. ``undelivered`` counts what did not decode, ``problem`` says of
    the first why. ``trees``: the rows that hold trees of unfinished versions. ``asks``: the client is asked for
    bases that are not to be had."""

    def __init__(
        self, repo: RepositoryPass, rows: ClientRows, trees: ClientRows, verifier: Verifier, *, asks: bool = True
    ) -> None:
        self._repo = repo
        self._rows = rows
        self._trees = trees
        self._verifier = verifier
        self._asks = asks
        self._recent: _Recent | None = None
        self.left = PASS_BYTES
        self.undelivered = 0
        self.problem = ""

    def remember(self, type_: BlobType, id_: BlobId, data: bytes) -> None:
        """A blob that was just added may be a base soon; ignored until the first delta comes."""
        if self._recent is not None:
            self._recent.put(_key(type_, id_), data)

    def decode(self, delta: Delta) -> VerifiedBlob | None:
        """The blob, its payload plain; None when it counts as not delivered. What it copies from and is not
        to be had is disowned, so that the client is asked for it and builds on it no more."""
        payload = delta.payload
        if not delta.bases:
            return None
        if self._recent is None:
            self._recent = _Recent()
        absent = [id_ for id_ in delta.bases if not self._is_here(payload.type, id_)]
        if absent:
            self._disown(payload, absent, "it copies from blobs that its client did not deliver")
            return None
        bases = _Bases(self, delta)
        try:
            data = self._verifier.decode(payload, bases.fetch)
            plain = Payload(payload.type, payload.id, PLAIN, len(data), data)
            blob = self._verifier.verified(plain, data)
        except (NotFoundError, IntegrityError) as error:
            self._disown(payload, bases.lost, str(error))
            return None
        self.left -= len(data)
        self.remember(payload.type, payload.id, data)
        return blob

    def _disown(self, payload: Payload, bases: Sequence[BlobId], problem: str) -> None:
        if self._asks:
            self._rows.disown(_key(payload.type, id_) for id_ in bases)
        self.undelivered += 1
        self.problem = self.problem or f"{payload.type.name.lower()} blob {payload.id.hex()[:10]}: {problem}"

    def _is_here(self, type_: BlobType, id_: BlobId) -> bool:
        if not self._rows.possesses(_key(type_, id_)):
            return False
        return self._repo.has(type_, id_) or (type_ is BlobType.TREE and self._trees.holds(id_))

    def read(self, type_: BlobType, id_: BlobId) -> tuple[bytes, bool]:
        """A base that is here, and whether it had to be read. NotFoundError, IntegrityError."""
        assert self._recent is not None
        key = _key(type_, id_)
        found = self._recent.get(key)
        if found is not None:
            return found, False
        data = self._read(type_, id_)
        self.left -= len(data)
        self._recent.put(key, data)
        return data, True

    def _read(self, type_: BlobType, id_: BlobId) -> bytes:
        held = self._trees.held(id_) if type_ is BlobType.TREE else None
        if held is not None:
            return self._verifier.decode(held)
        try:
            return self._repo.read(type_, id_)
        except NotFoundError:
            self._repo.flush()  # added in this pass; once for all that was, since that is then in a pack
            return self._repo.read(type_, id_)


class _Bases:
    """What one payload may read; ``lost``: the base that could not be read, if any."""

    def __init__(self, deltas: Deltas, delta: Delta) -> None:
        self._deltas = deltas
        self._allowed = frozenset(delta.bases)
        self._type = delta.payload.type
        self._left = 4 * delta.payload.length + _READ_BYTES
        self.lost: list[BlobId] = []

    def fetch(self, type_: BlobType, id_: BlobId) -> bytes:
        if type_ is not self._type or id_ not in self._allowed:
            raise PayloadError(f"copies from blob {id_.hex()[:10]}, which it does not name")
        if self._left < 0 or self._deltas.left < 0:
            raise PayloadError("copies from more bytes than it may")
        try:
            data, was_read = self._deltas.read(type_, id_)
        except (NotFoundError, IntegrityError):
            self.lost.append(id_)
            raise
        if was_read:
            self._left -= len(data)
        return data


class _Recent:
    """The blobs used last, by key, within ``RECENT_BYTES``."""

    def __init__(self) -> None:
        self._blobs: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0

    def get(self, key: bytes) -> bytes | None:
        found = self._blobs.get(key)
        if found is not None:
            self._blobs.move_to_end(key)
        return found

    def put(self, key: bytes, data: bytes) -> None:
        if key in self._blobs or len(data) > RECENT_BYTES // 2:
            return
        self._blobs[key] = data
        self._bytes += len(data)
        while self._bytes > RECENT_BYTES:
            self._bytes -= len(self._blobs.popitem(last=False)[1])


def _key(type_: BlobType, id_: BlobId) -> bytes:
    return bytes((type_,)) + id_
