"""Moving objects through a tier that reduces nothing.

``receive`` takes objects from the inboxes into the tier's spool, ``send`` puts them into the storage
above and brings the answers down. An object is deleted where it came from only when it is durable
where it went; every step can be repeated. Heads travel behind the segments that they name.

::

    inbox --take--> spool --put--> storage above          answers: storage above --copy--> inbox
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import CdrError, FormatError, NotFoundError
from cdr_plugin.parcel.limits import MAX_SEGMENT_OBJECT_BYTES
from cdr_plugin.parcel.naming import ANSWERS, CLIENTS, ObjectName, SegmentName, parse_name
from cdr_plugin.reporter import Reporter


@dataclass(slots=True)
class Moved:
    """What one run moved; ``waiting`` is left behind for a later run."""

    objects: int = 0
    bytes: int = 0
    answers: int = 0
    waiting: int = 0
    waiting_bytes: int = 0
    clients: set[str] = field(default_factory=set)


def take(inbox: Transport, spool: Transport, spool_folder: Path, reporter: Reporter) -> Moved:
    """Move everything below ``clients/`` from the inbox into the spool."""
    moved = Moved()
    for info, name in _in_order(inbox.list(CLIENTS), reporter):
        try:
            if isinstance(name, SegmentName):
                target = spool_folder / info.name
                if not target.exists():
                    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    inbox.get_file(info.name, target)
                inbox.delete(info.name)
            else:
                # Heads and enrolments are replaced in place by their client: copied, never removed.
                if not _copy_if_new(inbox, spool, info):
                    continue
        except NotFoundError:
            continue  # its client withdrew it meanwhile
        _count(moved, info, name)
    return moved


def send(spool: Transport, spool_folder: Path, above: Transport, reporter: Reporter) -> Moved:
    """Put what is spooled into the storage above; segments leave the spool, heads stay for comparison."""
    moved = Moved()
    for info, name in _in_order(spool.list(CLIENTS), reporter):
        if isinstance(name, SegmentName):
            above.put_file(info.name, spool_folder / info.name)
            spool.delete(info.name)
        elif not _copy_if_new(spool, above, info):
            continue
        _count(moved, info, name)
        reporter.progress(segments_sent=moved.objects, bytes_sent=moved.bytes)
    return moved


def bring_answers(above: Transport, inboxes: Iterable[Transport]) -> int:
    """Copy receipts and the like down into every inbox; how many were new there."""
    copied = 0
    for info in above.list(ANSWERS):
        for inbox in inboxes:
            copied += _copy_if_new(above, inbox, info)
    return copied


def _in_order(objects: Iterable[ObjectInfo], reporter: Reporter) -> Iterator[tuple[ObjectInfo, ObjectName]]:
    """Segments by name, then heads: a head must not name what is not there yet."""
    found = []
    for info in objects:
        try:
            name = parse_name(info.name)
            if info.size > MAX_SEGMENT_OBJECT_BYTES:
                raise FormatError(f"{info.name}: {info.size} bytes are more than any object has")
        except CdrError as error:
            reporter.error(info.name, "receive", f"{error}; left where it is")
            continue
        found.append((not isinstance(name, SegmentName), info.name, info, name))
    for _, _, info, name in sorted(found, key=lambda row: row[:2]):
        yield info, name


def _copy_if_new(source: Transport, target: Transport, info: ObjectInfo) -> bool:
    """Replace the small object in ``target`` by that of ``source``; whether they differed."""
    data = source.get(info.name)
    try:
        if target.get(info.name) == data:
            return False
    except NotFoundError:
        pass
    target.put(info.name, data, overwrite=True)
    return True


def _count(moved: Moved, info: ObjectInfo, name: ObjectName) -> None:
    moved.objects += 1
    moved.bytes += info.size
    moved.clients.add(name.folder)
