"""What the agent remembers of a tier's jobs, in ``agent.json`` of the tier's state folder.

``{"format": 1, "jobs": {"backup": {"done": 1790000000.5, "proven": 0.0, "failures": 0, "error": ""}}}``

``done`` and ``proven`` as in ``elapsed.Moment``, or null. Losing the file repeats a job at most.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cdr_plugin.agent.elapsed import Moment
from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.agent.scheduler import Record
from cdr_plugin.errors import FormatError
from cdr_plugin.files import write_durably

NAME = "agent.json"
_FORMAT = 1
_MAX_BYTES = 64 * 1024
_MAX_ERROR_CHARS = 500


def read_ledger(folder: Path) -> dict[JobKind, Record]:
    """What is known of each job; nothing when there is no file. FormatError when it is damaged."""
    try:
        with (folder / NAME).open("rb") as file:
            return parse_ledger(file.read(_MAX_BYTES))
    except FileNotFoundError:
        return {}
    except FormatError as error:
        raise FormatError(f"{folder / NAME}: {error}; begun anew") from None


def write_ledger(folder: Path, records: Mapping[JobKind, Record]) -> None:
    """Durable when this returns; RemoteError, StorageFullError."""
    write_durably(folder / NAME, format_ledger(records))


def parse_ledger(data: bytes) -> dict[JobKind, Record]:
    """What ``format_ledger`` was given; FormatError."""
    try:
        document = json.loads(data)
        if document["format"] != _FORMAT:
            raise ValueError(f"format {document['format']!r}")
        known = {kind for kind in JobKind if kind in document["jobs"]}
        return {kind: _record(document["jobs"][kind]) for kind in known}
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FormatError(f"not the agent's notes ({error})") from None


def format_ledger(records: Mapping[JobKind, Record]) -> bytes:
    """The file's bytes."""
    jobs = {kind.value: _fields(record) for kind, record in records.items()}
    return json.dumps({"format": _FORMAT, "jobs": jobs}).encode()


def _fields(record: Record) -> dict[str, Any]:
    done = record.done
    return {
        "done": None if done is None else done.wall_s,
        "proven": 0.0 if done is None else done.proven_s,
        "failures": record.failures,
        "error": record.error[:_MAX_ERROR_CHARS],
    }


def _record(fields: Mapping[str, Any]) -> Record:
    done, proven_s = fields["done"], _seconds(fields["proven"])
    moment = None if done is None else Moment(_seconds(done), max(0.0, proven_s))
    return Record(moment, max(0, int(fields["failures"])), str(fields["error"]))


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is no time")
    return float(value)
