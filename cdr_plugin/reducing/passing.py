"""Passing on: what a pass took goes up once, on each uplink.

A delta stays a delta. What is known above is not sent again but attested, and only after this client's own
delivery of it was verified here. What cannot be decoded here travels as it came, and justifies nothing.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from cdr_plugin.client.room import RESERVE_BYTES, RESERVE_PART
from cdr_plugin.client.rows import blob_key
from cdr_plugin.contracts import Reducer
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import Payload
from cdr_plugin.parcel.blobrefs import BlobRef
from cdr_plugin.parcel.version import SignedVersionRecord
from cdr_plugin.reducing.parcel_writer import ParcelWriter
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.top.onward import Onward
from cdr_plugin.top.result import ReceiveResult


class _Lane:
    """One uplink within one pass."""

    def __init__(self, uplink: Uplink, reducers: Sequence[Reducer]) -> None:
        self.uplink = uplink
        self.writer = ParcelWriter(uplink)
        self._reducers = reducers

    def blob(self, client: Client, payload: Payload) -> None:
        key = blob_key(payload.type, payload.id)
        is_known = key in self.writer.fresh or self.uplink.state.is_passed(key)
        reduced = self._reduced(payload, is_known)
        if reduced is None:
            self.writer.attest(client, [(payload.type, payload.id)])
        else:
            self.writer.payload(client, reduced)

    def _reduced(self, payload: Payload, is_known: bool) -> Payload | None:
        current = payload
        for reducer in self._reducers:
            reduced = reducer.reduce(current, is_known=is_known)
            if reduced is None:
                return None if is_known else payload
            current = reduced
        return current


class PassingOn(Onward):
    """``reducers``: new ones for each uplink, in the configured order."""

    def __init__(self, uplinks: Sequence[Uplink], reducers: Sequence[Sequence[Reducer]], result: ReceiveResult) -> None:
        self._lanes = [_Lane(uplink, own) for uplink, own in zip(uplinks, reducers, strict=True)]
        self._result = result

    def blob(self, client: Client, payload: Payload) -> None:
        for lane in self._lanes:
            lane.blob(client, payload)

    def opaque(self, client: Client, payload: Payload) -> None:
        for lane in self._lanes:
            lane.writer.payload(client, payload, opaque=True)

    def attested(self, client: Client, blobs: Sequence[BlobRef]) -> None:
        for lane in self._lanes:
            lane.writer.attest(client, blobs)

    def version(self, client: Client, number: int, signed: SignedVersionRecord) -> None:
        for lane in self._lanes:
            lane.writer.version(client, number, signed)
        self._result.versions_forwarded += 1

    def introduce(self, clients: Sequence[Client]) -> None:
        """Let the tiers above know clients of which they have not heard, durably."""
        for lane in self._lanes:
            known = lane.uplink.state.known_above()
            new = [client for client in clients if client.fingerprint not in known]
            for client in new:
                lane.writer.introduce(client)
            if new:
                lane.writer.flush()
                lane.uplink.state.introduced(client.fingerprint for client in new)

    def has_room(self) -> bool:
        for lane in self._lanes:
            if (full := full_text(lane.uplink)) is not None:
                if full not in self._result.waiting:
                    self._result.waiting.append(full)
                return False
        return True

    def checkpoint(self) -> None:
        for lane in self._lanes:
            before = lane.writer.bytes
            lane.writer.flush()
            self._result.bytes_out += lane.writer.bytes - before

    def close(self) -> None:
        """Nothing more is passed on. What has not been checkpointed is taken again by the next pass."""
        for lane in self._lanes:
            lane.writer.close()


def full_text(uplink: Uplink) -> str | None:
    """Why nothing more fits in an uplink's spool; None while it does."""
    limit = uplink.spool_limit
    if limit is not None and uplink.state.holdings.size() >= limit:
        return f"waiting for room in the spool ({uplink.spool}, spool.max_size is {limit}); run 'cdr send'"
    disk = os.statvfs(uplink.spool)
    if disk.f_bavail * disk.f_frsize < min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // RESERVE_PART):
        return f"waiting for room on the disk of the spool ({uplink.spool})"
    return None
