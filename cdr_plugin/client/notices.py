"""What the tier above has to say to this client, as ``cdr send`` and ``cdr status`` show it."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.client.answer_reading import newest_answer
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import tier_signer
from cdr_plugin.contracts import Transport
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.notice import read_notice
from cdr_plugin.reporter import Reporter

NOTICE, _SERIAL = "notice", "notice_serial"


def read_notices(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Remember the newest notice in any of the storages, and say what it says."""
    lowest = int(client.state.get(_SERIAL) or b"0")
    name = answer_name(folder, Answer.NOTICE)
    newest = newest_answer(
        client, storages, name, read_notice, tier_signer, reporter, what="its notices are", lowest_serial=lowest
    )
    if newest is not None and newest.serial > lowest:
        text = newest.text if newest.text.isprintable() else repr(newest.text)
        client.state.put({NOTICE: text, _SERIAL: str(newest.serial)})
        if text:
            reporter.note(f"client {client.name}: the tier above says: {text}")
