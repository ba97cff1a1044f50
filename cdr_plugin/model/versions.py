"""What a repository remembers of a version: restic's snapshot, field for field."""

from __future__ import annotations

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.model.trees import go_json


class SnapshotSummary(msgspec.Struct, kw_only=True):
    """Counts of one backup run, as restic >= 0.17 stores them."""

    backup_start: str
    backup_end: str
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    data_added_packed: int = 0
    total_files_processed: int = 0
    total_bytes_processed: int = 0


class Snapshot(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A snapshot file. ``time`` is RFC 3339, ``tree`` hex, ``paths`` as restic spells them."""

    time: str
    parent: str = ""
    tree: str
    paths: list[str]
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: list[str] = []
    tags: list[str] = []
    original: str = ""
    program_version: str = ""
    summary: SnapshotSummary | None = None


_decoder = msgspec.json.Decoder(Snapshot)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    return go_json(msgspec.json.encode(snapshot))


def decode_snapshot(data: Buffer) -> Snapshot:
    """FormatError when ``data`` is no snapshot; unknown fields are ignored, as restic does."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"snapshot: {error}") from None
