"""Adopting the group's central policy on contact, where the tier inherits one."""

from __future__ import annotations

import time
from collections.abc import Iterable

from cdr_plugin.client.answer_reading import newest_answer
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import top_signer
from cdr_plugin.config.adopted import Adopted, read_adopted, write_adopted
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import ConfigError
from cdr_plugin.identity.keys import VerifyKey
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.policy import read_policy
from cdr_plugin.reporter import Reporter


def adopt_policies(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Take the newest policy in any of the storages, if it is newer than the one in force; under ``send.lock``.

    Durable on return, and in force from the next command on. One that is not for us, is older, or cannot be carried
    out by this version is reported and leaves what is in force.
    """
    if not client.inherits:
        return
    last = read_adopted(client.state_folder)
    top, signer = _top_of(client)
    key = signer.fingerprint.hex()
    lowest = last.serial if last is not None and last.key == key else 0
    name = answer_name(folder, Answer.POLICY)
    newest = newest_answer(
        client, storages, name, read_policy, top_signer, reporter, what="its policy is", lowest_serial=lowest
    )
    if newest is None or (newest.serial == lowest and last is not None):
        return
    adopted = Adopted(newest.serial, client.ticket.group, top, key, int(time.time()), newest.text)
    try:
        _ = adopted.policy
    except ConfigError as error:
        kept = "nothing of it" if last is None else "the one before"
        reporter.error(name, "receive", f"{error}; {kept} is in force")
        return
    write_adopted(client.state_folder, adopted)
    reporter.note(f"{client.name}: the policy of group {adopted.group} is adopted; see 'cdr policy show'")


def _top_of(client: ClientTier) -> tuple[str, VerifyKey]:
    """Name and present key of the top tier. That of the tier that issued the ticket may have been replaced since."""
    return client.ticket.tiers[-1].name, client.ticket.top
