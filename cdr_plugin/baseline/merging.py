"""Which tables become one, and what of them is kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from cdr_plugin.archiver.catalog import CatalogReader
from cdr_plugin.baseline.live import LiveBlobs
from cdr_plugin.baseline.table import Table, TableWriter

_MAX_TABLES = 8
"""Asking each takes 5 microseconds."""
_GROWTH = 3
"""A table is merged with newer ones that together have a third of its bytes: so at most a third of the
baseline is dead, and what stays is written again only after as much has come."""
_MIN_MERGE_BYTES = 64 * 1024
"""Reading the catalogs costs more than less than that is worth."""
_MAX_MERGED = 255


def merge_count(sizes: Sequence[int]) -> int:
    """How many of the newest tables to merge, given the sizes from the newest on; 0 for none now."""
    total, count = 0, 0
    for size in sizes[:_MAX_MERGED]:
        if count > 1 and size > _GROWTH * total and len(sizes) - count < _MAX_TABLES:
            break
        total, count = total + size, count + 1
    newer = total - sizes[-1] if sizes else 0
    is_worth_it = count == len(sizes) and count > 1 and newer >= _MIN_MERGE_BYTES and sizes[-1] <= _GROWTH * newer
    return count if is_worth_it or len(sizes) > _MAX_TABLES else 0


def write_merged(path: Path, inputs: Sequence[Table], catalogs: Iterable[Path]) -> bool:
    """What is live in the tables, the newest first; False, and no file, when nothing is."""
    live = LiveBlobs()
    for catalog in catalogs:
        with CatalogReader(catalog) as reader:
            live.add(reader)
    labels = sorted({label for table in inputs for label in table.labels})
    path.unlink(missing_ok=True)
    writer = TableWriter(path, labels)
    with ExitStack() as stack:
        stack.callback(writer.abandon)
        for number, table in enumerate(inputs, 1):
            for entry in live.take(table, number):
                writer.add(entry)
        if writer.entries:
            writer.finish()
            return True
    path.unlink()
    return False
