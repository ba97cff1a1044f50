"""Putting a client's baseline where the client finds it, and taking it away when it has served.

Parts first, the manifest last; an old manifest goes before its parts do, so a reader finds a manifest
whose parts are there, or none, or (in the middle of a change) parts that it refuses by their hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import FormatError
from cdr_plugin.identity.register import Client
from cdr_plugin.parcel.baseline import Baseline, write_baseline, write_blob_part, write_facts_part
from cdr_plugin.parcel.limits import MAX_BASELINE_BLOBS, MAX_BASELINE_PART_BYTES
from cdr_plugin.parcel.naming import (
    Answer,
    PartName,
    answer_name,
    answers_folder,
    folder_id,
    parse_name,
    part_name,
)
from cdr_plugin.parcel.sealed import Author

_FACTS_BYTES = MAX_BASELINE_PART_BYTES - 1
"""One byte says whether they are compressed."""


class Publisher:
    """Writes the parts of one baseline into every inbox, then its manifest."""

    def __init__(self, inboxes: Sequence[Transport], author: Author, series: bytes, serial: int) -> None:
        self._inboxes = inboxes
        self._author = author
        self._series = series
        self._serial = serial
        self._folder = folder_id(author.client, author.group)
        self._hashes: list[bytes] = []
        self._blob_parts = 0
        self.bytes = 0
        for inbox in inboxes:
            inbox.delete(answer_name(self._folder, Answer.BASELINE))

    def add_blobs(self, keys: Iterable[bytes]) -> int:
        """Parts that list these blobs; how many there are. Before any facts."""
        count = 0
        for batch in _batches(keys):
            self._put(write_blob_part(self._series, len(self._hashes), self._serial, batch, self._author))
            count += len(batch)
        self._blob_parts = len(self._hashes)
        return count

    def add_facts(self, facts: Iterable[bytes]) -> None:
        """Parts that hold this stream, cut wherever a part is full."""
        pending = bytearray()
        for piece in facts:
            pending += piece
            while len(pending) >= _FACTS_BYTES:
                self._put_facts(bytes(pending[:_FACTS_BYTES]))
                del pending[:_FACTS_BYTES]
        if pending:
            self._put_facts(bytes(pending))

    def finish(self, *, snapshot: str, time: str, number: int, record: bytes, tree: bytes) -> None:
        """Remove parts of longer baselines before, then write the manifest: the baseline is there."""
        baseline = Baseline(
            serial=self._serial,
            series=self._series,
            parts=self._hashes,
            blob_parts=self._blob_parts,
            snapshot=snapshot,
            time=time,
            number=number,
            record=record,
            tree=tree,
        )
        data = write_baseline(baseline, self._author)
        for inbox in self._inboxes:
            _remove_parts(inbox, self._folder, len(self._hashes))
            inbox.put(answer_name(self._folder, Answer.BASELINE), data, overwrite=True)
        self.bytes += len(data)

    def _put_facts(self, facts: bytes) -> None:
        self._put(write_facts_part(self._series, len(self._hashes), self._serial, facts, self._author))

    def _put(self, data: bytes) -> None:
        name = part_name(self._folder, Answer.BASELINE, len(self._hashes))
        for inbox in self._inboxes:
            inbox.put(name, data, overwrite=True)
        self._hashes.append(sha256(data).digest())
        self.bytes += len(data)


def adopted_fact(client: Client) -> str:
    """The name in the top's state for when (RFC 3339) a baseline was last published for a client."""
    return f"adopted:{client.fingerprint.hex()}"


def withdraw(inbox: Transport, client: Client) -> None:
    """Remove what was published for a client; no error when nothing is there."""
    folder = folder_id(client.key, client.group)
    inbox.delete(answer_name(folder, Answer.BASELINE))
    _remove_parts(inbox, folder, 0)


def _remove_parts(inbox: Transport, folder: str, first: int) -> None:
    for info in list(inbox.list(answers_folder(folder))):
        try:
            name = parse_name(info.name)
        except FormatError:
            continue  # not ours
        if isinstance(name, PartName) and name.whole is Answer.BASELINE and name.number >= first:
            inbox.delete(info.name)


def _batches(keys: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    for key in keys:
        batch.append(key)
        if len(batch) == MAX_BASELINE_BLOBS:
            yield batch
            batch = []
    if batch:
        yield batch
