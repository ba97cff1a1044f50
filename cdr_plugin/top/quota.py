"""Quotas: what a client may have stored, in bytes as it delivered them.

What goes beyond stays in the inbox as it is, neither taken nor asked for, and the client is told why. Nobody else
is touched by it. Once versions were forgotten and pruned, what the repository still holds is looked up, and counts:
at the top. A tier that reduces is told nothing of what was forgotten above, so its count does not sink.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from itertools import islice

from cdr_plugin.contracts import RepositoryReader, Transport
from cdr_plugin.identity.register import Client, ClientState, SenderKind
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.notice import write_notice
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.inbox import Inboxes
from cdr_plugin.top.intake import Arrival
from cdr_plugin.top.state import ClientRows
from cdr_plugin.top.tier import TopTier
from cdr_plugin.top.usage import Usage, lost_usages

RECOUNT_EVERY_S = 3600.0
"""What a client possesses is looked up no more often than this: some 2 seconds for a million blobs."""
_BATCH_BLOBS = 8192
_SAID = "notice:"


def within(
    top: TopTier, client: Client, arrivals: Sequence[Arrival], inboxes: Inboxes, homes: Sequence[Transport],
    reporter: Reporter,
) -> list[Arrival]:  # fmt: skip
    """Of what arrived, in order, as much as fits; the client is told when something has to stay. Clients that come
    through another tier are that tier's to hold up."""
    if top.quota is None or client.kind is not SenderKind.CLIENT:
        _tell(top, client, "", inboxes, homes)
        return list(arrivals)
    left, fitting = top.quota - Usage(top.state, client).delivered, []
    for arrival in arrivals:
        left -= arrival.size
        if left < 0:
            break
        fitting.append(arrival)
    staying = len(arrivals) - len(fitting)
    text = ""
    if staying:
        text = f"the quota of {top.quota} bytes is used up; what was sent beyond it waits until there is room"
        problem = f"above its quota of {top.quota} bytes; {staying} segments stay in the inbox"
        reporter.error(f"client {client.name}", "receive", problem)
    _tell(top, client, text, inboxes, homes)
    return fitting


def _tell(top: TopTier, client: Client, text: str, inboxes: Inboxes, homes: Sequence[Transport]) -> None:
    """Unless it was told the same before. The note of what was said is made behind the saying."""
    said = _said(client)
    if (top.state.get(said) or b"").decode() == text:
        return
    data = write_notice(
        text,
        top.identity.signing,
        serial=top.state.next_serial(said),
        client=client.key,
        sealing=client.sealing,
        group=top.group,
        issued_s=int(time.time()),
    )
    name = answer_name(folder_id(client.key, top.group), Answer.NOTICE)
    for inbox in inboxes.reachable(homes):
        with inboxes.using(inbox):
            inbox.put(name, data, overwrite=True)
    if not inboxes.failures:
        top.state.put({said: text})


def recount(top: TopTier) -> None:
    """Look up what the repository holds of those who were told that their quota is used up, before a pass. What a tier
    that passes on has retained says nothing of what is above: looked at only where the state was lost."""
    if top.quota is None:
        return
    now_s = time.time()
    clients = (client for client in top.register.clients(top.group) if client.state is ClientState.APPROVED)
    told = {client for client, text in top.state.facts(_SAID).items() if text}
    lost = lost_usages(top.state)
    usages = ((c, Usage(top.state, c)) for c in clients if c.fingerprint.hex() in told | lost)
    near = [(client, usage) for client, usage in usages if _is_to_be_counted(top, usage, now_s)]
    if not near:
        return
    with closing(top.open_repository()) as repository, repository.reading() as reader:
        for client, usage in near:
            usage.recount(_held(top.state.client(client.fingerprint), reader), now_s)
            usage.save()


def _is_to_be_counted(top: TopTier, usage: Usage, now_s: float) -> bool:
    was_counted = 0 <= now_s - usage.counted_s < RECOUNT_EVERY_S
    return usage.is_lost or (top.is_end and not was_counted)


def _said(client: Client) -> str:
    """The fact that tells what a client was told last."""
    return f"{_SAID}{client.fingerprint.hex()}"


def _held(rows: ClientRows, reader: RepositoryReader) -> int:
    total, possessed = 0, rows.possessed()
    while keys := list(islice(possessed, _BATCH_BLOBS)):
        for type_ in BlobType:
            sizes = reader.stored_sizes(type_, [BlobId(key[1:]) for key in keys if key[0] == type_])
            total += sum(size.stored for size in sizes if size)
    return total
