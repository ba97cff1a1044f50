"""What the tier above has to say to this client, as ``cdr send`` and ``cdr status`` show it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import FormerKeyError, tier_signer
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import IntegrityError, NotFoundError, RemoteError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.notice import Notice, read_notice
from cdr_plugin.reporter import Reporter

NOTICE, _SERIAL = "notice", "notice_serial"


def read_notices(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Remember the newest notice in any of the storages, and say what it says."""
    lowest = int(client.state.get(_SERIAL) or b"0")
    found = [_read_in(client, storage, folder, lowest, reporter) for storage in storages]
    newest = max((notice for notice in found if notice is not None), key=lambda n: n.serial, default=None)
    if newest is not None and newest.serial > lowest:
        text = newest.text if newest.text.isprintable() else repr(newest.text)
        client.state.put({NOTICE: text, _SERIAL: str(newest.serial)})
        if text:
            reporter.note(f"client {client.name}: the tier above says: {text}")


def _read_in(client: ClientTier, storage: Transport, folder: str, lowest: int, reporter: Reporter) -> Notice | None:
    name, ticket = answer_name(folder, Answer.NOTICE), client.ticket
    try:
        return read_notice(
            storage.get(name, 0, MAX_DOCUMENT_BYTES + 1),
            keys=client.identity.sealing_keys(ticket.group),
            tier=tier_signer(client),
            client=client.identity.signing.public,
            group=ticket.group,
            now_s=time.time(),
            lowest_serial=lowest,
        )
    except (NotFoundError, FormerKeyError):
        return None
    except RemoteError as error:
        reporter.note(f"client {client.name}: {error}; its notices are read another time")
    except IntegrityError as error:
        reporter.error(name, "receive", f"{error}; ignored")
    return None
