"""Answering from recipes: the files that catalogs name are read through the chunker again.

The chunker gives the same blobs for the same bytes, so no offsets are kept; SHA-256 says whether a file
still holds what it held.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

from cdr_plugin.archiver.catalog import CatalogReader, Record
from cdr_plugin.client.catalogs import kept_catalogs
from cdr_plugin.client.places import Places
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import Splitter
from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId

_PIECE = 1 << 20
_ID = 32


def source_blobs(client: ClientTier, wanted: set[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
    """Each data blob of ``wanted`` that a file named by a kept catalog still holds, once. Reads each such file
    as far as it must; one blob is in memory at a time. Changes meanwhile do no harm: what is yielded fits its ID."""
    left = set(wanted)
    splitter = client.splitter_factory()()
    for number, path in kept_catalogs(client.state):
        if not left:
            return
        version = client.state.version(number)
        places = Places.from_bytes(version.places if version else b"")
        for file, ids in _files(path, places, left):
            for id_, blob in _blobs(file, splitter, ids & left):
                left.discard(id_)
                yield id_, blob


def _files(catalog: Path, places: Places, left: set[BlobId]) -> Iterator[tuple[bytes, set[BlobId]]]:
    """Files with wanted contents, and which these are. A torn catalog names nothing."""
    try:
        with CatalogReader(catalog) as reader:
            for record in reader:
                if not left.isdisjoint(_cut(record.content)):
                    yield from _files_of(record, places, left)
    except FormatError:
        return


def _files_of(record: Record, places: Places, left: set[BlobId]) -> Iterator[tuple[bytes, set[BlobId]]]:
    for name, entry in record.entries().items():
        found = left.intersection(_cut(entry.ids))
        for path in places.find(record.key, name) if found else ():
            yield path, found


def _cut(ids: bytes) -> list[BlobId]:
    return [BlobId(ids[at : at + _ID]) for at in range(0, len(ids), _ID)]


def _blobs(path: bytes, splitter: Splitter, wanted: set[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return
            for blob in _split(file.read, status.st_size, splitter):
                id_ = BlobId(sha256(blob).digest())
                if id_ in wanted:
                    wanted.discard(id_)
                    yield id_, blob
                if not wanted:
                    return
        except OSError:
            return


def _split(read: Callable[[int], bytes | None], size: int, splitter: Splitter) -> Iterator[bytes]:
    """The blobs of a file's first ``size`` bytes: one that grows as fast as it is read comes to an end."""
    splitter.reset()
    blob = bytearray()
    while size > 0 and (data := read(min(size, _PIECE))):
        size -= len(data)
        start = 0
        for cut in splitter.feed(data):
            blob += data[start:cut]
            yield bytes(blob)
            blob.clear()
            start = cut
        blob += data[start:]
    if blob:
        yield bytes(blob)
