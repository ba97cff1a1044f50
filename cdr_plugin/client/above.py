"""What the tier above says of itself, for a sender that asks before it begins."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cdr_plugin.errors import CdrError, IntegrityError, NotFoundError
from cdr_plugin.parcel.limits import MAX_STATUS_BYTES
from cdr_plugin.parcel.naming import status_name
from cdr_plugin.parcel.tier_status import TierStatus, read_tier_status

if TYPE_CHECKING:
    from cdr_plugin.client.tier import ClientTier

_SERIAL = "status_serial"


def status_of_above(client: ClientTier) -> TierStatus | None:
    """From the first storage that has it; None where it says nothing, or nothing that counts: that stands in
    nobody's way."""
    from cdr_plugin.client.tier_keys import tier_signer

    lowest = int(client.state.get(_SERIAL) or b"0")
    for url in client.storages:
        try:
            with client.plugins.transport(url) as storage:
                data = storage.get(status_name(client.ticket.group), 0, MAX_STATUS_BYTES + 1)
            status = read_tier_status(
                data,
                tier=tier_signer(client),
                group=client.ticket.group,
                now_s=time.time(),
                lowest_serial=lowest,
            )
        except (NotFoundError, IntegrityError):
            continue
        except CdrError:
            return None
        if status.serial > lowest:
            client.state.put({_SERIAL: str(status.serial)})
        return status
    return None
