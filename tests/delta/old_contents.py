"""Old contents for tests: blobs in memory, cut at random or made when asked for."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from cdr_delta.plugin import DeltaMethod
from cdr_plugin.contracts import Base, Differ, Encoder, FetchBlob, OldContent
from cdr_plugin.errors import NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id

METHOD = DeltaMethod()
KEY = bytes(range(32))


@dataclass(frozen=True)
class Held:
    """A blob that the receiver holds; ``data`` where its bytes are kept here too."""

    id: BlobId
    length: int
    memory: bytes = b""
    data: bytes | None = None


class Bases(OldContent):
    """Counts what is asked for."""

    def __init__(self, held: Sequence[Held | None], type_: BlobType = BlobType.DATA) -> None:
        self.type = type_
        self.count = len(held)
        self.asked: list[int] = []
        self.read: list[int] = []
        self._held = held

    def base(self, position: int) -> Base | None:
        self.asked.append(position)
        held = self._held[position]
        return held and Base(held.id, held.length, held.memory, held.data is not None)

    def data(self, position: int) -> bytes | None:
        self.read.append(position)
        held = self._held[position]
        return held and held.data


@dataclass
class Content:
    """An old content in blobs, as one side remembers it and the other holds it."""

    blobs: list[bytes]
    bases: list[Held | None]

    def fetch(self, type_: BlobType, id_: BlobId) -> bytes:
        for blob in self.blobs:
            if blob_id(blob) == id_:
                return blob
        raise NotFoundError(f"no blob {id_.hex()}")

    def without_data(self) -> list[Held | None]:
        return [base and replace(base, data=None) for base in self.bases]


def encoder(block_size: int = 512, key: bytes | None = KEY, level: int = 3) -> Encoder:
    settings: dict[str, object] = {"block_size": block_size, "level": level}
    if key is not None:
        settings["key"] = key
    return METHOD.encoder(settings)


def differ(old: OldContent, block_size: int = 512) -> Differ:
    made = encoder(block_size).differ(old)
    assert made is not None
    return made


def cut(content: bytes, cuts: Sequence[int]) -> list[bytes]:
    ends = sorted({0, len(content), *(at % (len(content) + 1) for at in cuts)})
    return [content[a:b] for a, b in pairwise(ends)]


def remembered(blobs: Sequence[bytes], block_size: int = 512, with_data: bool = False) -> Content:
    made = encoder(block_size)
    bases: list[Held | None] = []
    at = 0
    for blob in blobs:
        data = blob if with_data else None
        bases.append(Held(blob_id(blob), len(blob), made.remember(blob, at), data))
        at += len(blob)
    return Content(list(blobs), bases)


def decode(payload: object, length: int, fetch: FetchBlob) -> bytes:
    return METHOD.decoder().decode(payload, length, fetch)  # type: ignore[arg-type]


def words(seed: int, size: int) -> bytes:
    """Text that compresses to about a third."""
    maker = random.Random(seed)
    vocabulary = [maker.randbytes(maker.randint(2, 4)).hex().encode() for _ in range(300)]
    return b" ".join(maker.choices(vocabulary, k=size // 6))[:size].ljust(size, b".")
