"""What a receiving tier says of itself to those who send to it: ready or busy, until when, and how fast they may send.

Signed for each of its groups, below the inbox. Senders who ask for it (``when.above``) wait while it says *busy*; one
that is gone, or too old, stands in nobody's way.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdr_plugin.identity.codec import Count, WireStruct
from cdr_plugin.identity.documents import ANYONE, NEVER_S, Accept, open_document, sign_document
from cdr_plugin.identity.keys import SigningKey, VerifyKey
from cdr_plugin.model.blobs import Buffer

BUSY_S = 86400
"""How long *busy* holds at most without being said again."""
_KIND = "status"


class _Body(WireStruct, frozen=True):
    busy: bool
    limit: Count


@dataclass(frozen=True, slots=True)
class TierStatus:
    """``until_s``: when *busy* ends by itself (seconds since 1970), 0 when it is ready; ``limit``: bytes per second
    that it takes, 0: it does not say. Why it is busy is not said: the note can be read by whoever reads the storage."""

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
        expires_s=min(status.until_s, issued_s + BUSY_S) if status.busy else NEVER_S,
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
    until_s = document.expires_s if body.busy else 0
    return TierStatus(body.busy, until_s, body.limit, document.serial)
