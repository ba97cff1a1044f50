"""What lies in an inbox and takes room there."""

from __future__ import annotations

from collections.abc import Iterator

from cdr_plugin.contracts import Transport
from cdr_plugin.parcel.layout import client_folder, put_objects

_HEAD = "/head"


def is_head(name: str) -> bool:
    """Heads stay where they are, and do not count."""
    return name.endswith(_HEAD)


def segments_in(storage: Transport) -> Iterator[tuple[str, int]]:
    """The client's folder, where the name tells it, and the size of each object that waits, whatever its name."""
    for info in put_objects(storage):
        if not is_head(info.name):
            yield client_folder(info.name), info.size
