"""What a repository remembers of a version: restic's snapshot, field for field."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

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
    unknown: bytes = msgspec.field(default=b"", name=" unknown")
    """A JSON object of the fields that this class does not know, those of the summary in a ``summary`` of
    its own; empty when there are none. Other programs write them, and rewriting must not lose them."""


_decoder = msgspec.json.Decoder(Snapshot)
_encoder = msgspec.json.Encoder()
_Fields: TypeAlias = dict[str, msgspec.Raw]
_fields_decoder = msgspec.json.Decoder(_Fields)
_NULL = msgspec.Raw(b"null")
_is_id = re.compile(r"[0-9a-f]{64}").fullmatch
_KNOWN = frozenset(Snapshot.__struct_encode_fields__)
_KNOWN_SUMMARY = frozenset(SnapshotSummary.__struct_encode_fields__)


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The snapshot file: known fields in restic's order, then unknown ones as they were read."""
    encoded = _encoder.encode(_without_unknown(snapshot))
    if snapshot.unknown:
        encoded = _merge(encoded, snapshot.unknown)
    return go_json(encoded)


def snapshot_fields(snapshot: Snapshot) -> dict[str, Any]:
    """The known fields as JSON types, as ``--json`` shows them."""
    fields: dict[str, Any] = msgspec.to_builtins(_without_unknown(snapshot))
    return fields


def decode_snapshot(data: Buffer) -> Snapshot:
    """FormatError when ``data`` is no snapshot; fields that nobody here knows are kept in ``unknown``."""
    try:
        snapshot = _decoder.decode(data)
        snapshot.unknown = _unknown(_fields_decoder.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"snapshot: {error}") from None
    if not _is_id(snapshot.tree):
        raise FormatError(f"snapshot: {snapshot.tree[:80]!r} is not the ID of a tree")
    return snapshot


def _without_unknown(snapshot: Snapshot) -> Snapshot:
    return msgspec.structs.replace(snapshot, unknown=b"") if snapshot.unknown else snapshot


def _unknown(fields: _Fields) -> bytes:
    unknown = {name: value for name, value in fields.items() if name not in _KNOWN}
    summary = _fields_decoder.decode(fields["summary"]) if fields.get("summary", _NULL) != _NULL else {}
    of_summary = {name: value for name, value in summary.items() if name not in _KNOWN_SUMMARY}
    if of_summary:
        unknown["summary"] = msgspec.Raw(_encoder.encode(of_summary))
    return _encoder.encode(unknown) if unknown else b""


def _merge(known: bytes, unknown: bytes) -> bytes:
    fields, more = _fields_decoder.decode(known), _fields_decoder.decode(unknown)
    of_summary = more.pop("summary", None)
    if of_summary is not None and "summary" in fields:
        summary = _fields_decoder.decode(fields["summary"]) | _fields_decoder.decode(of_summary)
        fields["summary"] = msgspec.Raw(_encoder.encode(summary))
    return _encoder.encode(fields | more)
