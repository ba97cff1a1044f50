"""What a receiving tier says of itself to those who send to it: ready or busy, until when, and how fast they may send.

Signed for each of its groups, below the inbox, and carried down from there by tiers that open nothing. Senders who ask
for it (``when.above``) wait while it says *busy*; one that is gone, or too old, stands in nobody's way. So each runs
out: whoever keeps the storage may keep an old one there.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.identity.codec import Count, WireStruct
from cdr_plugin.identity.documents import ANYONE, Accept, open_document, sign_document
from cdr_plugin.identity.keys import SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer

BUSY_S = 86400
"""How long *busy* holds at most without being said again."""
LIMIT_S = 45 * 86400
"""How long a limit does, by itself: longer than a tier is away that takes once a month."""
_KIND = "status"


class _Body(WireStruct, frozen=True):
    busy: bool
    limit: Count


@dataclass(frozen=True, slots=True)
class TierStatus:
    """``until_s``: when it ends by itself (seconds since 1970); ``limit``: bytes per second that it takes, 0: it does
    not say. Why it is busy is not said: the note can be read by whoever reads the storage."""

    busy: bool
    until_s: int = 0
    limit: int = 0
    serial: int = 0


def write_tier_status(status: TierStatus, signer: SigningKey, *, group: str, issued_s: int) -> bytes:
    """The signed note of a group. ``status.serial`` must be higher than that of any note before, durably."""
    return sign_document(
        _KIND,
        signer=signer,
        group=group,
        addressee=ANYONE,
        serial=status.serial,
        issued_s=issued_s,
        expires_s=min(status.until_s, issued_s + (BUSY_S if status.busy else LIMIT_S)),
        body=_Body(busy=status.busy, limit=status.limit),
    )


def read_tier_status(
    data: Buffer, *, tier: VerifyKey | Accept, group: str, now_s: float, lowest_serial: int = 0
) -> TierStatus:
    """``tier`` signs for the inbox. AuthenticationError, also for what has expired, and FormatError."""
    document = open_document(
        data, kind=_KIND, signer=tier, group=group, addressee=ANYONE, now_s=now_s, lowest_serial=lowest_serial
    )
    body = document.body_as(_Body)
    return TierStatus(body.busy, document.expires_s, body.limit, document.serial)
