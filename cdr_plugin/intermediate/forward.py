"""Moving objects through a tier that reduces nothing.

``receive`` takes objects from the inboxes into the tier's spool, ``send`` puts them into the storage
above and brings the answers down. An object is deleted where it came from only when it is durable
where it went; every step can be repeated. Heads travel behind the segments that they name.

::

    inbox --take--> spool --put--> storage above          answers: storage above --copy--> inbox
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.contracts import ObjectInfo, Transport, Verdict
from cdr_plugin.errors import CdrError, FormatError, NotFoundError
from cdr_plugin.files import TEMPORARY_PREFIX, storage_error, sync_folder
from cdr_plugin.parcel.limits import MAX_SEGMENT_OBJECT_BYTES
from cdr_plugin.parcel.naming import ANSWERS, CLIENTS, HeadName, ObjectName, SegmentName, parse_name
from cdr_plugin.reporter import Reporter


@dataclass(slots=True)
class Moved:
    """What one run moved: segments, their bytes, and answers that were new below. ``waiting_for``: why it
    ended before all was moved."""

    segments: int = 0
    bytes: int = 0
    answers: int = 0
    waiting_for: str = ""

    def add(self, other: Moved) -> None:
        self.segments += other.segments
        self.bytes += other.bytes
        self.answers += other.answers


def take(inbox: Transport, spool: Transport, spool_folder: Path, reporter: Reporter) -> Moved:
    """Move everything below ``clients/`` from the inbox into the spool."""
    moved = Moved()
    # Heads are read before segments are listed: what they name is there by then.
    heads = _read_heads(inbox)
    for info, name in _in_order(inbox.list(CLIENTS), reporter):
        if isinstance(name, HeadName):
            continue
        try:
            _take_object(inbox, info, spool_folder)
        except NotFoundError:
            continue  # its client withdrew it meanwhile
        _count(moved, info, name)
    for head, data in heads.items():
        if not _is_older(spool, head, data):
            _put_if_new(spool, head, data)
    return moved


def _is_older(spool: Transport, name: str, data: bytes) -> bool:
    """Is this head older than the one that came through another inbox, which its client could not reach then?"""
    from cdr_plugin.parcel.head import carried_serial  # not for 'cdr status': it needs the crypto library

    folder = name.split("/")[1]
    try:
        present = spool.get(name, 0, MAX_SEGMENT_OBJECT_BYTES)
    except NotFoundError:
        return False
    return carried_serial(data, folder) < carried_serial(present, folder)


def _read_heads(inbox: Transport) -> dict[str, bytes]:
    """Heads by name. They are replaced in place by their clients, so they stay where they are."""
    heads = {}
    for info, name in _in_order(inbox.list(CLIENTS), Reporter()):
        if isinstance(name, HeadName):
            try:
                heads[info.name] = inbox.get(info.name, 0, MAX_SEGMENT_OBJECT_BYTES)
            except NotFoundError:
                continue
    return heads


def _take_object(inbox: Transport, info: ObjectInfo, spool_folder: Path) -> None:
    """Durable in the spool under its name, then gone from the inbox."""
    target = spool_folder / info.name
    temporary = spool_folder / f"{TEMPORARY_PREFIX}{info.name.replace('/', '-')}"
    try:
        temporary.unlink(missing_ok=True)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        inbox.get_file(info.name, temporary)
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # renaming one hard link over another removes neither
        for folder in (target.parent, *target.parent.parents[: len(Path(info.name).parts) - 1]):
            sync_folder(folder)
    except OSError as error:
        raise storage_error(target, error) from error
    inbox.delete(info.name)


def send(
    spool: Transport, spool_folder: Path, above: Transport, reporter: Reporter, may_go_on: Callable[[], Verdict]
) -> Moved:
    """Put what is spooled into the storage above; segments leave the spool, heads stay for comparison."""
    moved = Moved()
    for info, name in _in_order(spool.list(CLIENTS), reporter):
        if isinstance(name, HeadName):
            _copy_if_new(spool, above, info)
            continue
        verdict = may_go_on()
        if not verdict.convenient:
            moved.waiting_for = verdict.reason
            break  # heads that name what is not there yet stay, too
        above.put_file(info.name, spool_folder / info.name)
        spool.delete(info.name)
        _count(moved, info, name)
        reporter.progress(segments_sent=moved.segments, bytes_sent=moved.bytes)
    return moved


def waiting(spool: Transport) -> tuple[int, int]:
    """Segments and bytes that wait in the spool."""
    names = ((info.size, parse_name(info.name)) for info in spool.list(CLIENTS))
    sizes = [size for size, name in names if isinstance(name, SegmentName)]
    return len(sizes), sum(sizes)


def bring_answers(above: Transport, inboxes: Iterable[Transport], reporter: Reporter) -> int:
    """Copy receipts and the like down into every inbox; how many were new there."""
    copied = 0
    for info, _ in _in_order(above.list(ANSWERS), reporter):
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
        found.append((isinstance(name, HeadName), info.name, info, name))
    for _, _, info, name in sorted(found, key=lambda row: row[:2]):
        yield info, name


def _copy_if_new(source: Transport, target: Transport, info: ObjectInfo) -> bool:
    """Replace the small object in ``target`` by that of ``source``; whether they differed."""
    return _put_if_new(target, info.name, source.get(info.name, 0, MAX_SEGMENT_OBJECT_BYTES))


def _put_if_new(target: Transport, name: str, data: bytes) -> bool:
    try:
        if target.get(name, 0, len(data) + 1) == data:
            return False
    except NotFoundError:
        pass
    target.put(name, data, overwrite=True)
    return True


def _count(moved: Moved, info: ObjectInfo, name: ObjectName) -> None:
    moved.segments += isinstance(name, SegmentName)
    moved.bytes += info.size
