"""What lies in an inbox, sorted by client folder. Foreign names are reported and left alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import FormatError
from cdr_plugin.parcel.naming import CLIENTS, EnrolmentName, HeadName, SegmentName, parse_name
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.intake import Arrival

MAX_ENROLMENT_BYTES = 64 * 1024
"""A request has about 3 KB; what is larger is none, and is not read."""


@dataclass(slots=True)
class Inbox:
    """One listing of one inbox."""

    transport: Transport
    segments_by_folder: dict[str, list[Arrival]] = field(default_factory=dict)
    heads: set[str] = field(default_factory=set)
    enrolments: list[tuple[str, EnrolmentName]] = field(default_factory=list)

    def segments(self, folder: str) -> list[Arrival]:
        return self.segments_by_folder.get(folder, [])

    def has_head(self, folder: str) -> bool:
        return folder in self.heads

    def unknown(self, known: Iterable[str]) -> list[str]:
        """Folders with segments of nobody whom we know."""
        return sorted(self.segments_by_folder.keys() - set(known))


def list_inbox(transport: Transport, reporter: Reporter) -> Inbox:
    inbox = Inbox(transport)
    for info in transport.list(CLIENTS):
        try:
            name = parse_name(info.name)
        except FormatError as error:
            reporter.error(info.name, "receive", f"{error}; left where it is")
            continue
        if isinstance(name, SegmentName):
            arrival = Arrival(info.name, name.parcel_id, name.index, info.size)
            inbox.segments_by_folder.setdefault(name.folder, []).append(arrival)
        elif isinstance(name, HeadName):
            inbox.heads.add(name.folder)
        elif isinstance(name, EnrolmentName):
            if info.size > MAX_ENROLMENT_BYTES:
                reporter.error(info.name, "receive", f"{info.size} bytes are no request to be known; left where it is")
                continue
            inbox.enrolments.append((info.name, name))
    return inbox
