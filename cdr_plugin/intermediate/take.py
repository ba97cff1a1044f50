"""Moving what the inboxes hold into the spool of the tier, by whatever transport they are reached.

An object is deleted where it came from only when it is durable here. The inboxes together are one storage: a head
counts when all of them were read, and when nothing of its client is left behind for want of room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import NotFoundError, RemoteError, StorageFullError
from cdr_plugin.files import TEMPORARY_PREFIX, storage_error, sync_folder
from cdr_plugin.identity.wire import is_of_newer_program
from cdr_plugin.intermediate.objects import MAX_OBJECT_BYTES, Moved, in_order, put_if_new, waiting
from cdr_plugin.parcel.layout import client_folder, put_objects
from cdr_plugin.parcel.naming import HeadName
from cdr_plugin.reporter import Reporter

_NO_ROOM = "waiting for room in the spool (spool.max_size), which 'cdr send' makes"


def take(
    inboxes: Mapping[str, Transport],
    spool: Transport,
    spool_folder: Path,
    limit: int | None,
    reporter: Reporter,
    *,
    all_reached: bool = True,
) -> Moved:
    """Move everything that lower tiers have put into the spool, whatever the layout, as long as that holds at most
    ``limit`` bytes. An inbox that fails is reported and left out; RemoteError when each of them does.
    ``all_reached``: there are no others."""
    taking = _Taking(spool, spool_folder, limit, reporter)
    # Heads are read before segments are listed: what they name is there by then.
    heads = {url: found for url, inbox in inboxes.items() if (found := taking.heads(url, inbox)) is not None}
    for url in heads:
        taking.segments(url, inboxes[url])
    if taking.failed and len(taking.failed) == len(inboxes):
        raise taking.failed[0]
    if all_reached and not taking.failed:
        taking.put_heads(list(heads.values()))
    return taking.moved


class _Taking:
    def __init__(self, spool: Transport, spool_folder: Path, limit: int | None, reporter: Reporter) -> None:
        self._spool = spool
        self._spool_folder = spool_folder
        self._limit = limit
        self._spooled = 0 if limit is None else waiting(spool)[1]
        self._reporter = reporter
        self._behind: set[str] = set()
        """Folders of clients; the empty one stands for whoever may be in a shared folder."""
        self.failed: list[RemoteError] = []
        self.moved = Moved()

    def heads(self, url: str, inbox: Transport) -> dict[str, bytes] | None:
        """Heads by name; None for an inbox that fails. They are replaced in place by their clients, so they stay
        where they are."""
        try:
            return dict(_read_heads(inbox))
        except RemoteError as error:
            self._fail(url, error)
            return None

    def _fail(self, url: str, error: RemoteError) -> None:
        self._reporter.error(url, "receive", f"{error}; left out for now")
        self.failed.append(error)
        self.moved.failures += 1

    def segments(self, url: str, inbox: Transport) -> None:
        try:
            for info, name in in_order(put_objects(inbox), self._reporter):
                if not isinstance(name, HeadName):
                    self._take(inbox, info, name.folder)
        except RemoteError as error:
            self._fail(url, error)

    def _take(self, inbox: Transport, info: ObjectInfo, folder: str) -> None:
        if self.moved.waiting_for or not self._has_room(info.size):
            self._behind.add(folder)
            self.moved.waiting_for = self.moved.waiting_for or _NO_ROOM
            return
        try:
            whole = _take_object(inbox, info, self._spool_folder)
        except NotFoundError:
            return  # its client withdrew it meanwhile
        except StorageFullError as error:
            self._behind.add(folder)
            self.moved.waiting_for = f"waiting for room in the spool: {error}"
            return
        if not whole:
            self._behind.add(folder)
            return
        self.moved.count(info)
        self._spooled += info.size

    def _has_room(self, size: int) -> bool:
        """What is larger than the limit by itself fits into an empty spool."""
        return self._limit is None or not self._spooled or self._spooled + size <= self._limit

    def put_heads(self, found: Sequence[Mapping[str, bytes]]) -> None:
        for heads in found:
            for name, data in heads.items():
                if is_of_newer_program(data):  # which of two is newer cannot be told
                    self._reporter.error(name, "receive", "its format is not known; left where it is, upgrade cdr")
                elif not {"", client_folder(name)} & self._behind and not _is_older(self._spool, name, data):
                    put_if_new(self._spool, name, data)


def _read_heads(inbox: Transport) -> Iterator[tuple[str, bytes]]:
    for info, name in in_order(put_objects(inbox), Reporter()):
        if isinstance(name, HeadName):
            try:
                yield info.name, inbox.get(info.name, 0, MAX_OBJECT_BYTES)
            except NotFoundError:
                continue


def _is_older(spool: Transport, name: str, data: bytes) -> bool:
    """Is this head older than the one that came through another inbox, which its client could not reach then?"""
    from cdr_plugin.parcel.head import carried_serial  # not for 'cdr status': it needs the crypto library

    folder = client_folder(name)
    try:
        present = spool.get(name, 0, MAX_OBJECT_BYTES)
    except NotFoundError:
        return False
    return carried_serial(data, folder) < carried_serial(present, folder)


def _take_object(inbox: Transport, info: ObjectInfo, spool_folder: Path) -> bool:
    """Durable in the spool under its name, then gone from the inbox. False when it is not whole: its size is not
    what was listed, so somebody is at it."""
    target = spool_folder / info.name
    temporary = spool_folder / f"{TEMPORARY_PREFIX}{info.name.replace('/', '-')}"
    try:
        temporary.unlink(missing_ok=True)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        inbox.get_file(info.name, temporary)
        if temporary.stat().st_size != info.size:
            temporary.unlink()
            return False
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # renaming one hard link over another removes neither
        for folder in (target.parent, *target.parent.parents[: len(Path(info.name).parts) - 1]):
            sync_folder(folder)
    except OSError as error:
        raise storage_error(target, error) from error
    inbox.delete(info.name)
    return True
