"""Reading which of our versions the top tier's checks have verified.

Only knowledge to show: nothing is freed or built on it. It is remembered as it was told, so that a version that
reaches damage stops to be shown as verified.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError, RemoteError
from cdr_plugin.parcel.verified_list import pack_verified, unpack_verified

# Reading a document needs the crypto library, which 'cdr status' does without.
if TYPE_CHECKING:
    from cdr_plugin.client.state import ClientState
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.contracts import Transport
    from cdr_plugin.parcel.verified import Verified
    from cdr_plugin.reporter import Reporter

_SERIAL, _VERSIONS = "verified_serial", "verified_versions"


def read_verified_in(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Remember the newest word in any of the storages, if it is newer than the last one. One that fails does not
    matter here."""
    found = []
    for storage in storages:
        try:
            found.append(_read_one(client, storage, folder, reporter))
        except RemoteError as error:
            reporter.note(f"client {client.name}: {error}; what is verified is read another time")
    newest = max((verified for verified in found if verified is not None), key=lambda v: v.serial, default=None)
    if newest is not None:
        client.state.put({_SERIAL: str(newest.serial), _VERSIONS: pack_verified(newest.versions)})


def _read_one(client: ClientTier, storage: Transport, folder: str, reporter: Reporter) -> Verified | None:
    from cdr_plugin.client.tier_keys import FormerKeyError, top_signer
    from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
    from cdr_plugin.parcel.naming import Answer, answer_name
    from cdr_plugin.parcel.verified import read_verified

    name = answer_name(folder, Answer.VERIFIED)
    ticket = client.ticket
    try:
        verified = read_verified(
            storage.get(name, 0, MAX_DOCUMENT_BYTES + 1),
            keys=client.identity.sealing_keys(ticket.group),
            tier=top_signer(client),
            client=client.identity.signing.public,
            group=ticket.group,
            now_s=time.time(),
        )
    except (NotFoundError, FormerKeyError):
        return None
    except IntegrityError as error:
        reporter.error(name, "receive", f"{error}; ignored")
        return None
    return verified if verified.serial > int(client.state.get(_SERIAL) or b"0") else None


def verified_times(state: ClientState) -> dict[tuple[int, bytes], int]:
    """When a check last covered each verified version, in seconds since 1970: by number and record hash."""
    try:
        versions = unpack_verified(state.get(_VERSIONS) or b"")
    except FormatError:
        return {}  # of a newer program; what it says is told again
    return {(version.number, version.record): version.time_s for version in versions}
