"""New keys of a client: the old signing key signs the new one, and the tier above is told until it has answered.

The identity changes in one step; what is to be told follows from it at any time, so a crash leaves nothing undone.
Records and parcels that are on their way were signed by the old key, so nothing may be when it goes.
"""

from __future__ import annotations

import time
from contextlib import ExitStack

from cdr_plugin.client.states import SegmentState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import UserError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.successor import announce_successor

_KNOWN_AS = "known_as"
"""Fact of the client's state: the fingerprint (hex) under which a receipt was addressed to it last."""
_REQUEST = "successor"
"""Fact: the fingerprint of the key that is announced, 32 bytes, and the object that does it."""


def rotate_keys(queues: list[ClientTier]) -> str:
    """Give a client, with all its transfer queues, new keys; the fingerprint of the new one. UserError while anything
    is on its way, or where a tier below the top knows it."""
    first = queues[0]
    with ExitStack() as stack:
        for client in queues:
            for lock, work in (("backup", "backup of"), ("send", "sending of")):
                what = f"{work} {client.name}"
                stack.enter_context(exclusive(client.state_folder / f"{lock}.lock", what))
            _check(client)
        for group in sorted({client.ticket.group for client in queues}):
            first.identity.rotate_sealing_key(group)
        return first.identity.rotate_signing_key().signing.public.fingerprint.hex()


def _check(client: ClientTier) -> None:
    under_way = client.state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN)
    if under_way:
        raise UserError(
            f"client {client.name}: {len(under_way)} segments are on their way, signed by the old key; "
            "rotate when 'cdr status' shows all versions as committed"
        )
    if len(client.ticket.tiers) > 1:
        raise UserError(
            f"client {client.name}: it reaches the top through a tier that reduces, which cannot pass new keys on; "
            "see docs/groups.md"
        )


def to_be_announced(client: ClientTier) -> bytes | None:
    """What tells the tier above the present key, always in the same words; None once it has answered to it, and for
    who never had another."""
    identity, state = client.identity, client.state
    key = identity.signing.public.fingerprint
    if not identity.predecessors or state.get(_KNOWN_AS) == key.hex().encode():
        return None
    kept = state.get(_REQUEST) or b""
    if kept[:32] != key:
        group = client.ticket.group
        sealing = identity.sealing_key(group, create=True).public
        now_s = int(time.time())
        kept = key + announce_successor(client.ticket, identity.signing, sealing, identity.predecessors, issued_s=now_s)
        state.put({_REQUEST: kept})
    return kept[32:]


def note_answered(client: ClientTier) -> None:
    """A receipt came that is addressed to the present key."""
    if client.identity.predecessors:
        client.state.put({_KNOWN_AS: client.identity.signing.public.fingerprint.hex()})
