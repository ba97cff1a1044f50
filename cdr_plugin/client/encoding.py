"""New blobs to payloads, each by the method that makes it smallest, and what is to be remembered of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from cdr_plugin.archiver import NewBlob, Origin
from cdr_plugin.client.remembering import Remembering
from cdr_plugin.contracts import Differ, Encoder
from cdr_plugin.model.blobs import PLAIN, BlobType, Buffer, Payload

LabelledEncoder = tuple[str, Encoder]
"""A method's label and one thread's encoder of it."""


class EncodedBlob(NamedTuple):
    """``payload`` is what travels. ``memories``: by label, what methods remember; ``kept``: the blob as a
    payload without bases, where its bytes are to be kept."""

    payload: Payload
    memories: Sequence[tuple[str, bytes]]
    kept: Payload | None


class Encoding:
    """Encodes the new blobs of one run. Any number of threads may use it."""

    def __init__(
        self, encoders: Callable[[], Sequence[LabelledEncoder]], remembering: Remembering | None = None
    ) -> None:
        """``encoders`` makes those of one thread; without ``remembering`` every blob is encoded by itself."""
        self._make_encoders = encoders
        self._remembering = remembering
        self._local = threading.local()
        self._lock = threading.Lock()
        self._differs: WeakKeyDictionary[Origin, list[tuple[str, Differ]]] = WeakKeyDictionary()

    def encode(self, type_: BlobType, blobs: Sequence[NewBlob]) -> list[EncodedBlob]:
        encoders = self._encoders()
        if self._remembering is None:
            return [EncodedBlob(whole, (), None) for whole in _whole(type_, blobs, encoders)]
        keeps = self._remembering.keeps[type_]
        memories = _memories(type_, blobs, encoders)
        deltas = self._deltas(type_, blobs, encoders, self._remembering)
        needed = [blob for blob, delta in zip(blobs, deltas, strict=True) if keeps or delta is None]
        wholes = iter(_whole(type_, needed, encoders))
        encoded = []
        for delta, memory in zip(deltas, memories, strict=True):
            whole = next(wholes) if keeps or delta is None else None
            encoded.append(EncodedBlob(_smaller(delta, whole), memory, whole if keeps else None))
        return encoded

    def _encoders(self) -> Sequence[LabelledEncoder]:
        found: Sequence[LabelledEncoder] | None = getattr(self._local, "encoders", None)
        if found is None:
            found = self._local.encoders = self._make_encoders()
        return found

    def _deltas(
        self, type_: BlobType, blobs: Sequence[NewBlob], encoders: Sequence[LabelledEncoder], remembering: Remembering
    ) -> list[Payload | None]:
        """Of each blob the first delta that a method makes, in the configured order."""
        found: list[Payload | None] = [None] * len(blobs)
        for at, (id_, data, offset, origin) in enumerate(blobs):
            for label, differ in self._differs_of(type_, origin, encoders, remembering) if origin is not None else ():
                delta = differ.encode(data, offset)
                if delta is not None:
                    found[at] = Payload(type_, id_, label, len(data), delta)
                    break
        return found

    def _differs_of(
        self, type_: BlobType, origin: Origin, encoders: Sequence[LabelledEncoder], remembering: Remembering
    ) -> list[tuple[str, Differ]]:
        """One for each method that builds on older contents; all blobs of a file share them."""
        with self._lock:
            differs = self._differs.get(origin)
        if differs is None:
            ids, differs = origin.ids, []
            for label, encoder in encoders if ids else ():
                differ = encoder.differ(remembering.old_content(label, type_, ids))
                if differ is not None:
                    differs.append((label, differ))
            with self._lock:
                differs = self._differs.setdefault(origin, differs)
        return differs


def _smaller(delta: Payload | None, whole: Payload | None) -> Payload:
    if delta is None or (whole is not None and len(whole.data) <= len(delta.data)):
        assert whole is not None
        return whole
    return delta


def _whole(type_: BlobType, blobs: Sequence[NewBlob], encoders: Sequence[LabelledEncoder]) -> list[Payload]:
    """Each blob by itself, by the method that makes it smallest. The first that takes it wins over none at
    all: a frame of zstd a little larger than the blob spares the repository to try once more."""
    plain = [data for _, data, _, _ in blobs]
    best: list[tuple[str, Buffer] | None] = [None] * len(blobs)
    for label, encoder in encoders:
        for at, (encoded, other) in enumerate(zip(encoder.encode_many(plain), best, strict=True)):
            if encoded is not None and (other is None or len(encoded) < len(other[1])):
                best[at] = (label, encoded)
    chosen = [found or (PLAIN, data) for found, data in zip(best, plain, strict=True)]
    return [
        Payload(type_, id_, label, len(data), encoded)
        for (id_, data, _, _), (label, encoded) in zip(blobs, chosen, strict=True)
    ]


def _memories(
    type_: BlobType, blobs: Sequence[NewBlob], encoders: Sequence[LabelledEncoder]
) -> Sequence[Sequence[tuple[str, bytes]]]:
    """What the methods remember of each data blob; the bytes of trees are kept themselves."""
    asked = [(label, encoder.remember) for label, encoder in encoders if _remembers(encoder)]
    if type_ is not BlobType.DATA or not asked:
        return [()] * len(blobs)
    found: list[Sequence[tuple[str, bytes]]] = []
    for _, data, offset, _ in blobs:
        memories = [(label, remember(data, offset)) for label, remember in asked]
        found.append([(label, memory) for label, memory in memories if memory])
    return found


def _remembers(encoder: Encoder) -> bool:
    return type(encoder).remember is not Encoder.remember
