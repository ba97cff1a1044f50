"""Versions as restic shows them: as tables, and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.look.describe import local_time
from cdr_plugin.model.versions import snapshot_fields
from cdr_plugin.retention.tags import user_tags

from .formatting import format_bytes, format_table


def version_json(version: StoredVersion) -> dict[str, Any]:
    """A snapshot object, with its IDs."""
    return {**snapshot_fields(version.snapshot), "id": version.id, "short_id": version.id[:8]}


def version_table(
    versions: Sequence[StoredVersion], *, compact: bool = False, reasons: Mapping[str, Sequence[str]] | None = None
) -> str:
    """A line for each version, or more: reasons (by ID) and paths stand one below the other.
    ``compact``: one line each, without reasons and paths. The tiers' own tags say nothing to people."""
    sized = any(version.snapshot.summary is not None for version in versions)
    shown = {} if compact or reasons is None else reasons
    headers = ["id", "time", "host", "tags", *["reasons"] * bool(shown), *["paths"] * (not compact), *["size"] * sized]
    rows: list[Sequence[str]] = []
    for version in versions:
        cells = [[version.id[:8]], [local_time(version.snapshot.time)], [version.snapshot.hostname], [_tags(version)]]
        if shown:
            cells.append(list(shown.get(version.id, ())))
        if not compact:
            cells.append(version.snapshot.paths)
        if sized:
            cells.append([_size(version)])
        rows += zip_longest(*cells, fillvalue="")
    return format_table(headers, rows)


def _tags(version: StoredVersion) -> str:
    return ",".join(user_tags(version.snapshot))


def _size(version: StoredVersion) -> str:
    summary = version.snapshot.summary
    return "" if summary is None else format_bytes(summary.total_bytes_processed)
