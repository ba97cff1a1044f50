"""The note below an inbox that says how much it may hold, how much it holds, and how much of that does not count.

A tier that has keys signs one for each of its groups. One that has none leaves a plain note, which anybody could
have written: it can make senders wait, for ``UNVERIFIED_S`` at most, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.errors import FormatError
from cdr_plugin.identity.codec import Count, WireStruct, decode, encode
from cdr_plugin.identity.documents import ANYONE, NEVER_S, Accept, open_document, read_carried, sign_document
from cdr_plugin.identity.keys import SigningKey, VerifyKey
from cdr_plugin.identity.wire import MAJOR_VERSION, ObjectKind, check_start
from cdr_plugin.model.blobs import Buffer
from cdr_plugin.parcel.limits import MAX_ROOM_BYTES

UNVERIFIED_S = 30 * 86400
"""How long a note that nobody vouches for makes senders wait, from the time that it states."""
_AHEAD_S = 86400
_KIND = "room"


class _Body(WireStruct, frozen=True):
    limit: Count
    used: Count
    ignored: Count


class _Plain(WireStruct, frozen=True):
    time_s: Count
    limit: Count
    used: Count
    ignored: Count


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes: at most ``limit``, of which ``used`` were taken at ``time_s`` (seconds since 1970). ``ignored``: what
    lay there besides, of senders whom nobody knows, and does not count."""

    limit: int
    used: int
    ignored: int
    time_s: int
    serial: int = 0


def write_room(room: Room, signer: SigningKey, *, group: str) -> bytes:
    """The signed note of a group. ``room.serial`` must be higher than that of any note before, durably."""
    return sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=ANYONE,
        serial=room.serial,
        issued_s=room.time_s,
        expires_s=NEVER_S,  # a tier that is away is when an inbox fills
        body=_Body(limit=room.limit, used=room.used, ignored=room.ignored),
    )


def read_room(data: Buffer, *, tier: VerifyKey | Accept, group: str, now_s: float, lowest_serial: int = 0) -> Room:
    """``tier`` signs for the inbox. AuthenticationError, FormatError."""
    document = open_document(
        data, kind=_KIND, signer=tier, group=group, addressee=ANYONE, now_s=now_s, lowest_serial=lowest_serial
    )
    body = document.body_as(_Body)
    return Room(body.limit, body.used, body.ignored, document.issued_s, document.serial)


def write_plain_room(room: Room) -> bytes:
    """The note of a tier without keys."""
    body = _Plain(time_s=room.time_s, limit=room.limit, used=room.used, ignored=room.ignored)
    return bytes((MAJOR_VERSION, ObjectKind.NOTE)) + encode(body, _KIND)


def read_unverified_room(data: Buffer, now_s: float) -> Room:
    """A plain note, or a signed one of whatever signer; FormatError for one that is none, or too old to count."""
    room = _signed_by_anybody(data) or _plain(data)
    if not now_s - UNVERIFIED_S <= room.time_s <= now_s + _AHEAD_S:
        raise FormatError(f"{_KIND}: written {now_s - room.time_s:.0f} seconds ago; it does not count any more")
    return room


def _plain(data: Buffer) -> Room:
    check_start(data, ObjectKind.NOTE, 2, MAX_ROOM_BYTES, _KIND)
    body = decode(_Plain, memoryview(data)[2:], _KIND)
    return Room(body.limit, body.used, body.ignored, body.time_s)


def _signed_by_anybody(data: Buffer) -> Room | None:
    carried = read_carried(data, kind=_KIND, is_owner=lambda _key, _group: True)
    if carried is None:
        return None
    body = decode(_Body, carried.body, f"body of {_KIND}")
    return Room(body.limit, body.used, body.ignored, carried.issued_s, carried.serial)
