"""What one run remembers of the blobs that it sends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cdr_plugin.baseline.table import KEY_BYTES, Entry, Kept, TableWriter
from cdr_plugin.model.blobs import Payload


class NewTable:
    """The table that a run writes. One thread at a time. When it cannot be written, nothing is remembered."""

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self.failure: OSError | None = None
        """Why nothing is remembered."""
        self._path = path
        self._part = path.with_name(f"{path.name}.part")
        self._labels = labels
        self._writer: TableWriter | None = None

    def remember(self, payload: Payload, label: str, memory: bytes) -> None:
        """The memory that the method ``label`` has of the payload's blob."""
        self._add(Entry(payload.id[:KEY_BYTES], payload.type, Kept.MEMORY, label, payload.length, memory))

    def keep(self, payload: Payload) -> None:
        """The blob's bytes, as a payload that needs no bases."""
        data = bytes(payload.data)
        self._add(Entry(payload.id[:KEY_BYTES], payload.type, Kept.CONTENT, payload.method, payload.length, data))

    def finish(self) -> None:
        """The run ends, with or without a version: what it made known is remembered from now on."""
        writer, self._writer = self._writer, None
        if writer is not None and self.failure is None:
            try:
                writer.finish()
                self._part.rename(self._path)
            except OSError as error:
                self._fail(writer, error)

    def _add(self, entry: Entry) -> None:
        if self.failure is not None:
            return
        writer = self._writer
        try:
            if writer is None:
                writer = self._writer = TableWriter(self._part, self._labels)
            writer.add(entry)
        except OSError as error:
            self._fail(writer, error)

    def _fail(self, writer: TableWriter | None, error: OSError) -> None:
        self.failure = error
        if writer is not None:
            writer.abandon()
        self._part.unlink(missing_ok=True)
