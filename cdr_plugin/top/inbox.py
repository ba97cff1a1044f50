"""The inboxes of a tier, and what lies in each, sorted by client folder.

Together they are one storage: a client may have put some segments here and the rest there. Foreign names
are reported and left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import randrange
from typing import Self

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import FormatError, NotFoundError, RemoteError
from cdr_plugin.parcel.naming import ANSWERS, CLIENTS, EnrolmentName, HeadName, SegmentName, parse_name
from cdr_plugin.plugins import Plugins
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.few import few_errors
from cdr_plugin.top.intake import Arrival
from cdr_plugin.top.laid_out import LaidOut

MAX_ENROLMENT_BYTES = 64 * 1024
"""A request has about 3 KB; what is larger is none, and is not read."""
MAX_ENROLMENTS = 4096
"""Requests of one listing that are read, at 0.5 ms each: of more a sample, each time another one, since what is refused
stays."""

MAX_LISTED = 100_000
"""Segments of one sender in one listing: 75 MB in memory, 800 GB in an inbox; the first by name. A hostile one leaves
millions, each empty; the rest is seen when these are taken."""


@dataclass(slots=True)
class Inbox:
    """One listing of one inbox. ``cut_off``: the folders in which there is more than is listed."""

    transport: Transport
    segments_by_folder: dict[str, list[Arrival]] = field(default_factory=dict)
    heads: dict[str, ObjectInfo] = field(default_factory=dict)
    enrolments: list[tuple[str, EnrolmentName]] = field(default_factory=list)
    cut_off: set[str] = field(default_factory=set)
    _requests: int = 0

    @property
    def has_all_unknown(self) -> bool:
        """Is everybody in it who is not known? Requests may be a sample, and objects of the unknown left out."""
        hides = isinstance(self.transport, LaidOut) and self.transport.hides_some
        return self._requests <= MAX_ENROLMENTS and not hides

    def add_enrolment(self, name: str, found: EnrolmentName) -> None:
        self._requests += 1
        if self._requests <= MAX_ENROLMENTS:
            self.enrolments.append((name, found))
        elif (place := randrange(self._requests)) < MAX_ENROLMENTS:
            self.enrolments[place] = name, found

    def add(self, info: ObjectInfo) -> None:
        """FormatError for what does not belong into an inbox."""
        name = parse_name(info.name)
        if isinstance(name, SegmentName):
            arrival = Arrival(info.name, name.parcel_id, name.index, ((self.transport, info.size),))
            self.add_segment(name.folder, arrival)
        elif isinstance(name, HeadName):
            self.heads[name.folder] = info
        elif isinstance(name, EnrolmentName):
            if info.size > MAX_ENROLMENT_BYTES:
                raise FormatError(f"{info.size} bytes are no request to be known")
            self.add_enrolment(info.name, name)

    def add_segment(self, folder: str, arrival: Arrival) -> None:
        found = self.segments_by_folder.setdefault(folder, [])
        found.append(arrival)
        if len(found) >= 2 * MAX_LISTED:
            self._cut(folder, found)

    def end(self) -> None:
        """All has been added."""
        for folder, found in self.segments_by_folder.items():
            if len(found) > MAX_LISTED:
                self._cut(folder, found)

    def _cut(self, folder: str, found: list[Arrival]) -> None:
        found.sort(key=lambda arrival: arrival.name)
        del found[MAX_LISTED:]
        self.cut_off.add(folder)

    def segments(self, folder: str) -> list[Arrival]:
        return self.segments_by_folder.get(folder, [])

    def has_head(self, folder: str) -> bool:
        return folder in self.heads

    def has_folder(self, folder: str) -> bool:
        return folder in self.heads or folder in self.segments_by_folder

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Folders with segments of nobody whom we know."""
        return sorted(self.segments_by_folder.keys() - set(known))


def list_inbox(transport: Transport, reporter: Reporter) -> Inbox:
    inbox = Inbox(transport)
    with few_errors(reporter, CLIENTS, "objects that are left where they are") as error:
        for info in transport.list(CLIENTS):
            try:
                inbox.add(info)
            except FormatError as problem:
                error(info.name, f"{problem}; left where it is")
    inbox.end()
    return inbox


class Inboxes:
    """All inboxes of one tier, open. One that fails is reported and left out from then on; when none is
    left, its error is raised.

    ``landing``: a folder of ours with what has landed before it is reduced. It counts as one more inbox, if it
    is there, but nobody looks into it for answers.
    """

    def __init__(
        self,
        plugins: Plugins,
        urls: Sequence[str],
        reporter: Reporter,
        view: Callable[[Transport], Transport] = lambda inbox: inbox,
        landing: Path | None = None,
    ) -> None:
        """``view``: how the tier sees an inbox, see ``laid_out``."""
        self._reporter = reporter
        self._open: dict[str, Transport] = {}
        self._failed: dict[str, Transport | None] = {}
        self._landing: Transport | None = None
        if landing is not None and landing.is_dir():
            # Our own disk: what limits the bandwidth to the inboxes is not for it.
            self._landing = plugins.transport_plugin(str(landing)).open(str(landing), {})
            self._open[str(landing)] = self._landing
        distinct = dict.fromkeys(urls)
        for url in distinct:
            try:
                self._open[url] = view(plugins.transport(url))
            except RemoteError as error:
                self._leave_out(url, None, error, others=len(self._failed) + 1 < len(distinct))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for transport in (*self._open.values(), *self._failed.values()):
            if transport is not None:
                transport.close()

    @property
    def failures(self) -> int:
        """How many are left out; while it is 0, what is in no inbox is not there."""
        return len(self._failed)

    def __iter__(self) -> Iterator[Transport]:
        return iter(list(self._open.values()))

    @property
    def answered(self) -> list[Transport]:
        """Those into which answers go."""
        return [inbox for inbox in self if inbox is not self._landing]

    def reachable(self, inboxes: Iterable[Transport]) -> Iterator[Transport]:
        """Those of ``inboxes`` that are not left out by the time that they are asked for."""
        return (inbox for inbox in inboxes if any(inbox is other for other in self._open.values()))

    @contextmanager
    def using(self, inbox: Transport) -> Iterator[None]:
        """What fails in the block makes this inbox be left out."""
        url = next((url for url, transport in self._open.items() if transport is inbox), None)
        try:
            yield
        except RemoteError as error:
            if url is not None:
                del self._open[url]
                self._leave_out(url, inbox, error, others=bool(self._open))

    def listings(self) -> list[Inbox]:
        """What lies in each."""
        found = []
        for inbox in self:
            with self.using(inbox):
                found.append(list_inbox(inbox, self._reporter))
        return found

    def answers(self) -> dict[Transport, set[str]]:
        """Names of what lies in each for those below."""
        found = {}
        for inbox in self.answered:
            with self.using(inbox):
                found[inbox] = {info.name for info in inbox.list(ANSWERS)}
        return found

    def lack(self, name: str, homes: Iterable[Transport]) -> bool:
        """Is the object absent from one of ``homes``? The storage lost it, or the inbox is a new one."""
        for inbox in self.reachable(homes):
            with self.using(inbox):
                try:
                    inbox.stat(name)
                except NotFoundError:
                    return True
        return False

    def delete(self, arrival: Arrival) -> None:
        """Remove every copy that can be reached; what stays is known as taken when it is listed again."""
        for inbox in self.reachable(inbox for inbox, _ in arrival.places):
            with self.using(inbox):
                inbox.delete(arrival.name)

    def _leave_out(self, url: str, inbox: Transport | None, error: RemoteError, *, others: bool) -> None:
        self._failed[url] = inbox
        if not others:
            raise error
        self._reporter.error(url, "receive", f"{error}; the other inboxes are read")


def merged(listings: Iterable[Inbox], folder: str) -> list[Arrival]:
    """A client's segments in all inboxes, each once with all the places where it lies."""
    found: dict[tuple[bytes, int], Arrival] = {}
    for listing in listings:
        for arrival in listing.segments(folder):
            key = arrival.parcel_id, arrival.index
            known = found.get(key)
            found[key] = arrival if known is None else replace(known, places=known.places + arrival.places)
    return list(found.values())


def is_cut_off(listings: Iterable[Inbox], folder: str) -> bool:
    """Is there more of a client than was listed?"""
    return any(folder in listing.cut_off for listing in listings)


def homes_of(folder: str, inboxes: Inboxes, listings: Iterable[Inbox]) -> list[Transport]:
    """The inboxes in which a client has a folder, so that it will look there; all of them when in none."""
    answered = inboxes.answered
    homes = [listing.transport for listing in listings if listing.has_folder(folder)]
    return [home for home in homes if any(home is inbox for inbox in answered)] or answered
