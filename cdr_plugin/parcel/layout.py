"""How clients' folders lie in a shared storage. Only what lower tiers put is laid out; answers are not.

::

    per-client    clients/FOLDER/...
    per-group     groups/GROUP/FOLDER/...
    shared        shared/PARCEL/INDEX for segments, clients/FOLDER/... for heads and enrolments

A tier that receives reads all three, whatever it asks for: what was put under another layout, by an older program or
before the layout was changed, is found as well. So the note that names the layout needs no signature: a forged
one changes where something is looked for, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import FormatError, NotFoundError
from cdr_plugin.identity.codec import ShortText, WireStruct, decode, encode
from cdr_plugin.identity.wire import MAJOR_VERSION, ObjectKind, check_start
from cdr_plugin.parcel.naming import CLIENTS, GROUPS, PUT, SHARED, layout_name

MAX_LAYOUT_BYTES = 512
_WHAT = "layout"
_SEGMENT_PARTS = 4


class Layout(StrEnum):
    """What ``receive.layout`` says."""

    PER_CLIENT = "per-client"
    PER_GROUP = "per-group"
    SHARED = "shared"


class _Note(WireStruct, frozen=True):
    layout: ShortText


def placed(name: str, layout: Layout, group: str) -> str:
    """Where an object of ours lies that is named as per client; ``group`` is the group's pseudonym."""
    top, *rest = name.split("/")
    if top != CLIENTS or layout is Layout.PER_CLIENT:
        return name
    if layout is Layout.PER_GROUP:
        return "/".join((GROUPS, group, *rest))
    return "/".join((SHARED, *rest[1:])) if len(rest) == _SEGMENT_PARTS - 1 else name


def put_objects(storage: Transport) -> Iterator[ObjectInfo]:
    """Everything that lower tiers have put, by its name there."""
    for folder in PUT:
        yield from storage.list(folder)


def client_folder(name: str) -> str:
    """The folder of the client to whom an object belongs by its name; empty where the name does not tell."""
    top, *rest = name.split("/")
    at = {CLIENTS: 0, GROUPS: 1}.get(top)
    return rest[at] if at is not None and len(rest) > at else ""


# --- the note ---


def post_layout(inbox: Transport, layout: Layout) -> None:
    """Say which layout senders are to use; nothing is said of the one that needs no word."""
    if read_layout(inbox) is layout:
        return
    if layout is Layout.PER_CLIENT:
        inbox.delete(layout_name())
    else:
        note = bytes((MAJOR_VERSION, ObjectKind.NOTE)) + encode(_Note(layout=layout), _WHAT)
        inbox.put(layout_name(), note, overwrite=True)


def read_layout(storage: Transport) -> Layout:
    """The layout that a storage has: per client where nothing is said, or nothing that is understood here."""
    try:
        data = storage.get(layout_name(), 0, MAX_LAYOUT_BYTES + 1)
        check_start(data, ObjectKind.NOTE, 2, MAX_LAYOUT_BYTES, _WHAT)
        return Layout(decode(_Note, memoryview(data)[2:], _WHAT).layout)
    except (NotFoundError, FormatError, ValueError):
        return Layout.PER_CLIENT
