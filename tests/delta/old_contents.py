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


class Bases(OldContent):
    """Counts what is asked for."""

    def __init__(self, bases: Sequence[Base | None], type_: BlobType = BlobType.DATA) -> None:
        self.type = type_
        self.count = len(bases)
        self.asked: list[int] = []
        self._bases = bases

    def base(self, position: int) -> Base | None:
        self.asked.append(position)
        return self._bases[position]


@dataclass
class Content:
    """An old content in blobs, as one side remembers it and the other holds it."""

    blobs: list[bytes]
    bases: list[Base | None]

    def fetch(self, type_: BlobType, id_: BlobId) -> bytes:
        for blob in self.blobs:
            if blob_id(blob) == id_:
                return blob
        raise NotFoundError(f"no blob {id_.hex()}")

    def without_data(self) -> list[Base | None]:
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
    bases: list[Base | None] = []
    at = 0
    for blob in blobs:
        data = blob if with_data else None
        bases.append(Base(blob_id(blob), len(blob), made.remember(blob, at), data))
        at += len(blob)
    return Content(list(blobs), bases)


def decode(payload: object, length: int, fetch: FetchBlob) -> bytes:
    return METHOD.decoder().decode(payload, length, fetch)  # type: ignore[arg-type]


def words(seed: int, size: int) -> bytes:
    """Text that compresses to about a third."""
    maker = random.Random(seed)
    vocabulary = [maker.randbytes(maker.randint(2, 4)).hex().encode() for _ in range(300)]
    return b" ".join(maker.choices(vocabulary, k=size // 6))[:size].ljust(size, b".")
