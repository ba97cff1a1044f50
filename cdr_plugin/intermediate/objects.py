"""What a tier moves unopened: objects by their names, heads last."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import CdrError, FormatError, NotFoundError
from cdr_plugin.parcel.layout import put_objects
from cdr_plugin.parcel.limits import MAX_SEGMENT_OBJECT_BYTES
from cdr_plugin.parcel.naming import HeadName, ObjectName, SegmentName, parse_name
from cdr_plugin.reporter import Reporter

MAX_OBJECT_BYTES = MAX_SEGMENT_OBJECT_BYTES


@dataclass(slots=True)
class Moved:
    """What one run moved: segments, their bytes, and answers that were new below. ``waiting_for``: why it
    ended before all was moved; ``failures``: inboxes that were left out."""

    segments: int = 0
    bytes: int = 0
    answers: int = 0
    waiting_for: str = ""
    failures: int = 0

    def add(self, other: Moved) -> None:
        self.segments += other.segments
        self.bytes += other.bytes
        self.answers += other.answers
        self.failures += other.failures
        self.waiting_for = "; ".join(filter(None, (self.waiting_for, other.waiting_for)))

    def count(self, info: ObjectInfo) -> None:
        """One object has moved."""
        self.segments += isinstance(parse_name(info.name), SegmentName)
        self.bytes += info.size


def in_order(objects: Iterable[ObjectInfo], reporter: Reporter) -> Iterator[tuple[ObjectInfo, ObjectName]]:
    """Segments by name, then heads: a head must not name what is not there yet."""
    found = []
    for info in objects:
        try:
            name = parse_name(info.name)
            if info.size > MAX_OBJECT_BYTES:
                raise FormatError(f"{info.name}: {info.size} bytes are more than any object has")
        except CdrError as error:
            reporter.error(info.name, "receive", f"{error}; left where it is")
            continue
        found.append((isinstance(name, HeadName), info.name, info, name))
    for _, _, info, name in sorted(found, key=lambda row: row[:2]):
        yield info, name


def put_if_new(target: Transport, name: str, data: bytes) -> bool:
    """Replace a small object; whether it was another one."""
    try:
        if target.get(name, 0, len(data) + 1) == data:
            return False
    except NotFoundError:
        pass
    target.put(name, data, overwrite=True)
    return True


def waiting(spool: Transport) -> tuple[int, int]:
    """Segments and bytes that wait in the spool."""
    names = ((info.size, parse_name(info.name)) for info in put_objects(spool))
    sizes = [size for size, name in names if isinstance(name, SegmentName)]
    return len(sizes), sum(sizes)
