"""All tables of a client's baseline: found, asked, written and merged.

A folder with ``table-<number>``; a higher number is newer and wins. ``<name>.part`` is being written by a
run, and after a crash holds what that run had remembered; ``merge`` is a merge that was not finished.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cdr_plugin.baseline.merging import merge_count, write_merged
from cdr_plugin.baseline.new_table import NewTable
from cdr_plugin.baseline.table import Entry, Kept, Table, TableWriter
from cdr_plugin.contracts import Base, Decoder
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError, PluginError
from cdr_plugin.model.blobs import PLAIN, BlobId, BlobType, verify_blob

_NAME = re.compile(r"table-([0-9]{8})(\.part)?")
_MERGE = "merge"

FindDecoder = Callable[[str], Decoder]
"""A new decoder for a payload's label; PluginError."""


class Baseline:
    """What is kept of blobs. Any number of threads may ask, and one process at a time may write."""

    def __init__(self, folder: Path, decoder: FindDecoder) -> None:
        self._folder = folder
        self._decoder = decoder
        self._local = threading.local()
        self._tables = _open_tables(folder)

    def close(self) -> None:
        for table in self._tables:
            table.close()

    @property
    def size(self) -> int:
        """Bytes of all tables."""
        return sum(table.size for table in self._tables)

    def base(self, type_: BlobType, id_: BlobId, label: str) -> Base | None:
        """What the method of this label may know of a blob; None when nothing is kept of it."""
        memory, has_data, length = b"", False, -1
        for table in self._tables:
            for entry in table.find(type_, id_, without_content=True):
                length = entry.length
                if entry.kept is Kept.MEMORY and entry.label == label:
                    memory = memory or entry.data
                elif entry.kept is Kept.CONTENT:
                    has_data = True
            if memory or has_data:
                return Base(id_, length, memory, has_data)
        return None

    def length(self, type_: BlobType, id_: BlobId) -> int | None:
        """Plain bytes of a blob of which something is kept."""
        return next((entry.length for table in self._tables for entry in table.find(type_, id_)), None)

    def get(self, type_: BlobType, id_: BlobId) -> bytes | None:
        """The plaintext of a blob, verified, where its bytes are kept."""
        for table in self._tables:
            for entry in table.find(type_, id_):
                data = self._decoded(type_, id_, entry) if entry.kept is Kept.CONTENT else None
                if data is not None:
                    return data
        return None

    def _decoded(self, type_: BlobType, id_: BlobId, entry: Entry) -> bytes | None:
        try:
            data = entry.data if entry.label == PLAIN else self._decode(entry)
            verify_blob(type_, id_, data)
        except (IntegrityError, NotFoundError, PluginError):
            return None
        return data

    def _decode(self, entry: Entry) -> bytes:
        """Decoders belong to one thread each."""
        decoders: dict[str, Decoder] = self._local.__dict__
        if entry.label not in decoders:
            decoders[entry.label] = self._decoder(entry.label)
        return decoders[entry.label].decode(entry.data, entry.length, _no_bases)

    # --- writing: by the process that makes versions ---

    def new_table(self, labels: Sequence[str]) -> NewTable:
        """What a run remembers; first finishes what runs that were killed had begun, and removes what is no
        table."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _tidy(self._folder, {table.path.name for table in self._tables})
        self.close()
        self._tables = _open_tables(self._folder)
        return NewTable(_next_path(self._folder), labels)

    def merge(self, catalogs: Iterable[Path]) -> int:
        """Merge tables where that is due, keeping what the catalogs name; how many there are now.

        Only when all that was ever known and is still wanted stands in a catalog: just after a version was
        captured. Nothing is lost at a crash.
        """
        inputs = self._tables[: merge_count([table.size for table in self._tables])]
        if inputs:
            try:
                self._merge(inputs, catalogs)
            except (OSError, FormatError):
                (self._folder / _MERGE).unlink(missing_ok=True)  # a full disk, a torn catalog: another time
        return len(self._tables)

    def _merge(self, inputs: Sequence[Table], catalogs: Iterable[Path]) -> None:
        path = _next_path(self._folder)
        if write_merged(self._folder / _MERGE, inputs, catalogs):
            (self._folder / _MERGE).rename(path)
        for table in inputs:
            table.path.unlink(missing_ok=True)
        self.close()
        self._tables = _open_tables(self._folder)


def _names(folder: Path) -> list[str]:
    """Tables, finished or not, the newest first."""
    if not folder.exists():
        return []
    return sorted((path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)), reverse=True)


def _next_path(folder: Path) -> Path:
    newest = next(iter(_names(folder)), "table-00000000")
    return folder / f"table-{int(newest[6:14]) + 1:08d}"


def _open_tables(folder: Path) -> list[Table]:
    """The newest first. What is torn is as if it were not there; what a merge has removed meanwhile is in
    its table."""
    while True:
        tables, gone = [], False
        for name in _names(folder):
            if not name.endswith(".part"):
                try:
                    tables.append(Table(folder / name))
                except FormatError:
                    gone = gone or not (folder / name).exists()
        if not gone:
            return tables
        for table in tables:
            table.close()


def _tidy(folder: Path, good: set[str]) -> None:
    """Remove what is torn, finish what was begun."""
    (folder / _MERGE).unlink(missing_ok=True)
    for name in _names(folder):
        path = folder / name
        if name.endswith(".part"):
            try:
                TableWriter.salvage(path).finish()
                path.rename(path.with_suffix(""))
            except (OSError, FormatError):
                path.unlink(missing_ok=True)
        elif name not in good:
            path.unlink(missing_ok=True)


def _no_bases(type_: BlobType, id_: BlobId) -> bytes:
    raise NotFoundError(f"{type_.name.lower()} blob {id_.hex()[:10]}: what the baseline keeps needs no bases")
