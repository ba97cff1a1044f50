"""What the summary of a job says: whether anything was done, and in one line for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.cli.formatting import format_bytes


def did_something(kind: JobKind, summary: Mapping[str, Any]) -> bool:
    """Something that others build on, or that people want to read of."""
    match kind:
        case JobKind.BACKUP:
            return summary.get("version") is not None
        case JobKind.SEND:
            return _count(summary, "segments_sent") > 0
        case JobKind.RECEIVE:
            return any(_count(summary, name) for name in ("bytes_in", "bytes_landed", "versions_stored"))
        case JobKind.FORGET:
            return _count(summary, "versions_removed") > 0
        case JobKind.CHECK:
            return bool(_groups(summary))


def in_words(kind: JobKind, summary: Mapping[str, Any]) -> str:
    """``version 12: 3 files new, 1 changed; 1.234 MiB to travel``."""
    match kind:
        case JobKind.BACKUP:
            files = f"{_count(summary, 'files_new')} files new, {_count(summary, 'files_changed')} changed"
            travel = format_bytes(_count(summary, "spooled_bytes"))
            return f"version {summary.get('version')}: {files}; {travel} to travel"
        case JobKind.SEND:
            sent = f"{_count(summary, 'segments_sent')} segments sent, {format_bytes(_count(summary, 'bytes_sent'))}"
            return f"{sent}; {_count(summary, 'segments_waiting')} wait"
        case JobKind.RECEIVE:
            stored = f"{_count(summary, 'versions_stored')} versions stored"
            return f"{format_bytes(_count(summary, 'bytes_in'))} taken, {stored}"
        case JobKind.FORGET:
            freed = sum(_count(group, "bytes_freed") for group in _groups(summary))
            return f"{_count(summary, 'versions_removed')} versions removed, {format_bytes(freed)} freed"
        case JobKind.CHECK:
            verified = sum(_count(group, "versions_verified") for group in _groups(summary))
            return f"{verified} versions verified, {_count(summary, 'num_errors')} errors"


def _groups(summary: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [group for group in summary.get("groups", ()) if not group.get("skipped")]


def _count(summary: Mapping[str, Any], name: str) -> int:
    value = summary.get(name)
    return value if isinstance(value, int) else 0
