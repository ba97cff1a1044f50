"""Adopting the group's central policy on contact, where the tier inherits one."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import FormerKeyError, top_signer
from cdr_plugin.config.adopted import Adopted, read_adopted, write_adopted
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import ConfigError, IntegrityError, NotFoundError, RemoteError
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.identity.keys import VerifyKey
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.policy import PolicyDocument, read_policy
from cdr_plugin.reporter import Reporter


def adopt_policies(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Take the newest policy in any of the storages, if it is newer than the one in force; under ``send.lock``.

    Durable on return, and in force from the next command on. One that is not for us, is older, or cannot be carried
    out by this version is reported and leaves what is in force.
    """
    if not client.inherits:
        return
    kept_in = client.policy_folder or client.state_folder
    last = read_adopted(kept_in)
    top, signer = _top_of(client)
    key = signer.fingerprint.hex()
    lowest = last.serial if last is not None and last.key == key else 0
    found = [_read_in(client, storage, folder, lowest, reporter) for storage in storages]
    newest = max((policy for policy in found if policy is not None), key=lambda p: p.serial, default=None)
    if newest is None or (newest.serial == lowest and last is not None):
        return
    adopted = Adopted(newest.serial, client.ticket.group, top, key, int(time.time()), newest.text)
    try:
        _ = adopted.policy
    except ConfigError as error:
        kept = "nothing of it" if last is None else "the one before"
        reporter.error(answer_name(folder, Answer.POLICY), "receive", f"{error}; {kept} is in force")
        return
    write_adopted(kept_in, adopted)
    reporter.note(f"{client.name}: the policy of group {adopted.group} is adopted; see 'cdr policy show'")


def _top_of(client: ClientTier) -> tuple[str, VerifyKey]:
    """Name and present key of the top tier. That of the tier that issued the ticket may have been replaced since."""
    return client.ticket.tiers[-1].name, client.ticket.top


def _read_in(
    client: ClientTier, storage: Transport, folder: str, lowest: int, reporter: Reporter
) -> PolicyDocument | None:
    """The policy in a storage; None where there is none that counts. A storage that fails does not matter here."""
    name = answer_name(folder, Answer.POLICY)
    ticket = client.ticket
    try:
        return read_policy(
            storage.get(name, 0, MAX_DOCUMENT_BYTES + 1),
            keys=client.identity.sealing_keys(ticket.group),
            tier=top_signer(client),
            client=client.identity.signing.public,
            group=ticket.group,
            now_s=time.time(),
            lowest_serial=lowest,
        )
    except (NotFoundError, FormerKeyError):
        return None
    except RemoteError as error:
        reporter.note(f"client {client.name}: {error}; its policy is read another time")
    except IntegrityError as error:
        reporter.error(name, "receive", f"{error}; ignored")
    return None
