"""An inbox as a receiving tier of one group sees it: all layouts at once, everything named as per client.

Whose a segment in the shared folder is, its sealed header tells. Opening one costs 0.2 ms and a look at the storage,
and anybody can put a million: those that the heads of known clients name are opened first, of others
``MAX_OPENED`` per listing. Whoever is attributed something is still checked when the segment is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from cdr_plugin.contracts import ObjectInfo, Transport, Travelled
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.head import carried_parcels, carried_serial
from cdr_plugin.parcel.layout import client_folder
from cdr_plugin.parcel.naming import (
    CLIENTS,
    GROUPS,
    SHARED,
    HeadName,
    SegmentName,
    folder_id,
    group_id,
    parse_name,
    segment_name,
)
from cdr_plugin.parcel.segment import MAX_START_BYTES, read_sender

if TYPE_CHECKING:
    from cdr_plugin.identity.register import Register
    from cdr_plugin.identity.store import Identity

R = TypeVar("R")

_HEAD = "/head"

MAX_OPENED = 4096
"""Segments of the shared folder that no known client's head names, opened in one listing: 1 to 2 s."""
MAX_REMEMBERED = 100_000
"""Objects outside their client's folder of which a listing remembers where they lie, 60 MB: the others are looked for
in every layout, and those that lie in two are listed twice."""

MAX_UNKNOWN = 100_000
"""Objects of senders whose segments are not taken that a listing shows, 60 MB where each has a folder of its own;
requests to be known are shown all."""

Owner: TypeAlias = Callable[[SegmentName, bytes], str | None]
"""The client's folder by a segment's name and first bytes; None where none of our keys opens it."""


class LaidOut(Transport):
    """``inner`` with all its layouts. ``group``: the pseudonym of the tier's group; ``known``: the folders of the
    clients whose segments are taken, as they are now."""

    def __init__(self, inner: Transport, group: str, owner: Owner, known: Callable[[], Set[str]]) -> None:
        self.abilities = inner.abilities
        self._inner = inner
        self._group = f"{GROUPS}/{group}"
        self._owner = owner
        self._known_now = known
        self._known: Set[str] = frozenset()
        self._owners: dict[str, str | None] = {}
        self._places: dict[str, list[str]] = {}
        """By the name as per client: where else, or where besides, it was listed."""
        self._remembers_all = False
        self.hides_some = False
        """Were objects of unknown senders left out of the last listing?"""

    # --- names ---

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        """As it comes: a million names cost nothing here but where the layout is shared."""
        if folder == CLIENTS:
            yield from self._of_whom_we_know(self._of_clients(folder))
        elif folder.startswith(f"{CLIENTS}/"):
            yield from self._of_clients(folder)
        else:
            yield from self._inner.list(folder)

    def _of_whom_we_know(self, found: Iterable[ObjectInfo]) -> Iterator[ObjectInfo]:
        """And of others so many."""
        left, self.hides_some = MAX_UNKNOWN, False
        for info in found:
            _, folder, name, *_ = *info.name.split("/"), "", ""
            if folder not in self._known and not name.startswith("enrol-"):
                if not left:
                    self.hides_some = True
                    continue
                left -= 1
            yield info

    def _of_clients(self, folder: str) -> Iterator[ObjectInfo]:
        self._places.clear()
        self._known = self._known_now()
        self._remembers_all, heads = True, dict[str, ObjectInfo]()
        for info in self._inner.list(self._group + folder[len(CLIENTS) :]):
            shown = CLIENTS + info.name[len(self._group) :]
            self._remember(shown, info.name)
            if self._is_known_head(shown):
                heads[shown] = replace(info, name=shown)
            else:
                yield replace(info, name=shown)
        for info in self._inner.list(folder):
            if self._is_known_head(info.name):
                # Of two either may be replaced.
                heads[info.name] = replace(info, stamp="") if info.name in heads else info
            if info.name in self._places:
                self._places[info.name].append(info.name)
            elif info.name not in heads:
                yield info
        yield from heads.values()
        for shown, info in self._shared(sorted(heads)):
            if shown.startswith(f"{folder}/"):
                yield from self._also(shown, info)

    def _is_known_head(self, shown: str) -> bool:
        return shown.endswith(_HEAD) and client_folder(shown) in self._known

    def _also(self, shown: str, info: ObjectInfo) -> Iterator[ObjectInfo]:
        """One of the shared folder, which may have a copy elsewhere."""
        if shown not in self._places and not self._is_there(shown):
            yield replace(info, name=shown)
        elif shown not in self._places:
            self._remember(shown, shown)
        self._remember(shown, info.name)

    def _remember(self, shown: str, place: str) -> None:
        if shown in self._places or len(self._places) < MAX_REMEMBERED:
            self._places.setdefault(shown, []).append(place)
        else:
            self._remembers_all = False

    def _is_there(self, name: str) -> bool:
        try:
            self._inner.stat(name)
        except NotFoundError:
            return False
        return True

    def _shared(self, names: Sequence[str]) -> Iterator[tuple[str, ObjectInfo]]:
        """Segments of the shared folder that are somebody's, named as per client."""
        waiting = list(self._inner.list(SHARED))
        announced = self._announced(names) if waiting else frozenset()
        left = MAX_OPENED
        for info in waiting:
            name = _segment(info.name)
            if name is None:
                continue
            if info.name not in self._owners and name.parcel_id not in announced:
                if not left:
                    continue
                left -= 1
            folder = self._owner_of(name, info.name)
            if folder:
                yield segment_name(folder, name.parcel_id, name.index), info

    def _announced(self, names: Sequence[str]) -> frozenset[bytes]:
        """Parcels that heads of known clients name."""
        found: set[bytes] = set()
        for shown in names:
            if (name := _head(shown)) is not None:
                try:
                    found |= {p.id for p in carried_parcels(self.get(shown, 0, MAX_DOCUMENT_BYTES + 1), name.folder)}
                except NotFoundError:
                    continue
        return frozenset(found)

    def _owner_of(self, name: SegmentName, place: str) -> str | None:
        if place not in self._owners:
            try:
                self._owners[place] = self._owner(name, self._inner.get(place, 0, MAX_START_BYTES))
            except NotFoundError:
                return None
        return self._owners[place]

    def _found(self, name: str) -> Sequence[str]:
        """Where an object may be: where it was listed, else in each layout."""
        if not name.startswith(f"{CLIENTS}/"):
            return (name,)
        return self._places.get(name) or self._possible(name)

    def _listed(self, name: str) -> Sequence[str]:
        """Where an object was listed; what was listed per client alone is not remembered."""
        return self._places.get(name) or ([name] if self._remembers_all else self._possible(name))

    def _possible(self, name: str) -> Sequence[str]:
        rest = name[len(CLIENTS) :]
        parts = rest.split("/")
        return (name, self._group + rest, *(["/".join((SHARED, *parts[2:]))] if len(parts) == 4 else []))

    # --- objects ---

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if offset == 0 and _head(name) is not None:
            return self._newest_head(name, self._listed(name), length)
        return self._first(name, lambda place: self._inner.get(place, offset, length))

    def get_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> None:
        self._first(name, lambda place: self._inner.get_file(place, path, moved))

    def stat(self, name: str) -> ObjectInfo:
        return replace(self._first(name, lambda place: self._inner.stat(place)), name=name)

    def _newest_head(self, name: str, places: Sequence[str], length: int | None) -> bytes:
        """A client leaves its head where it was when the layout changes, and writes the next one elsewhere."""
        found = []
        for place in places:
            try:
                found.append(self._inner.get(place, 0, length))
            except NotFoundError:
                continue
        if not found:
            raise NotFoundError(f"{name}: there is no such object")
        return max(found, key=lambda data: carried_serial(data, name.split("/")[1]))

    def _first(self, name: str, work: Callable[[str], R]) -> R:
        *others, last = self._found(name)
        for place in others:
            try:
                return work(place)
            except NotFoundError:
                continue
        return work(last)

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        self._inner.put(name, data, overwrite=overwrite)

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        return self._inner.put_file(name, path, moved)

    def delete(self, name: str) -> None:
        for place in self._listed(name) if name.startswith(f"{CLIENTS}/") else [name]:
            if place.startswith(f"{SHARED}/") and self._owners.get(place) != client_folder(name):
                continue  # of another client, whose parcel has the same ID
            self._inner.delete(place)
            self._owners.pop(place, None)

    def free_space(self) -> int | None:
        return self._inner.free_space()

    def close(self) -> None:
        self._inner.close()


def owner_by(identity: Identity, groups: Sequence[str]) -> Owner:
    """By the keys of ``groups``, those of one tier."""

    def owner(name: SegmentName, start: bytes) -> str | None:
        for group in groups:
            try:
                keys = identity.sealing_keys(group)
                sender = read_sender(start, group=group, keys=keys, parcel_id=name.parcel_id, index=name.index)
            except IntegrityError:
                continue
            return folder_id(sender, group)
        return None

    return owner


def laid_out(inner: Transport, group: str, identity: Identity, others: Sequence[str], register: Register) -> LaidOut:
    """The inbox for one group of a tier that has ``others`` as well, whose segments may lie in the same folder."""
    from cdr_plugin.top.room import known_folders

    return LaidOut(inner, group_id(group), owner_by(identity, (group, *others)), lambda: known_folders(register))


def _segment(name: str) -> SegmentName | None:
    try:
        found = parse_name(name)
    except FormatError:
        return None
    return found if isinstance(found, SegmentName) else None


def _head(name: str) -> HeadName | None:
    try:
        found = parse_name(name)
    except FormatError:
        return None
    return found if isinstance(found, HeadName) else None
