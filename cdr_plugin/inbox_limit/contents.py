"""What lies in an inbox and takes room there."""

from __future__ import annotations

from collections.abc import Iterator

from cdr_plugin.contracts import Transport
from cdr_plugin.parcel.naming import CLIENTS

_HEAD = "/head"


def segments_in(storage: Transport) -> Iterator[tuple[str, int]]:
    """The client's folder and the size of each object that waits, whatever its name; heads stay where they are, and
    do not count."""
    for info in storage.list(CLIENTS):
        if not info.name.endswith(_HEAD):
            yield info.name.split("/")[1], info.size
