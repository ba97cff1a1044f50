"""Writing a client's receipt: cumulative, so that any one of them may be lost. It goes into every inbox in
which the client has a folder, since each of them may be the only one that it reaches."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import islice

from cdr_plugin.contracts import Transport
from cdr_plugin.errors import NotFoundError, RemoteError
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.head import Head, HeadParcel
from cdr_plugin.parcel.limits import MAX_REASON_CHARS, MAX_RECEIPT_BLOBS, MAX_RECEIPT_INDEXES
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id, segment_name
from cdr_plugin.parcel.receipt import (
    ParcelReceipt,
    Receipt,
    RejectedSegment,
    VersionReceipt,
    write_receipt,
)
from cdr_plugin.parcel.receipt import VersionState as Answered
from cdr_plugin.top.inbox import Inboxes
from cdr_plugin.top.state import ClientRows, TakenSegment, VersionRow, VersionState, newest_committed
from cdr_plugin.top.tier import TopTier

_RECENT_VERSIONS = 1000
"""Named in a receipt: those that wait, and those that were settled last. Numbers do not tell, behind a fork."""
MAX_LOOKED_FOR = 16_384
"""Segments that are looked for once more for one receipt, before it calls them missing; a hostile head names 10^13."""
MAX_NAMED_REJECTED = 1024
"""Rejected ones, with reasons: 2 MB at most, so that with all the rest a document holds them."""
_STATES = {
    VersionState.PENDING: Answered.STORED,
    VersionState.COMMITTED: Answered.COMMITTED,
    VersionState.INCOMPLETE: Answered.INCOMPLETE,
    VersionState.REJECTED: Answered.REJECTED,
}


def answered_fact(client: Client) -> str:
    """The name in the tier's state for the serial of the newest head of a client that a receipt has answered."""
    return f"answered:{client.fingerprint.hex()}"


class Answerer:
    """Writes receipts to one sender into those of the inboxes that are its ``homes``: about itself, and, where it
    is a tier, about each client for which it speaks."""

    def __init__(self, top: TopTier, sender: Client, inboxes: Inboxes, homes: Sequence[Transport]) -> None:
        self._top = top
        self._sender = sender
        self._inboxes = inboxes
        self._homes = homes
        self._folder = folder_id(sender.key, top.group)
        self._waits = False
        self._looks_left = self._rejected_left = 0

    def write(
        self,
        segments: ClientRows,
        versions: ClientRows | None,
        head: Head | None,
        present: Set[tuple[bytes, int]],
        *,
        is_all: bool,
        final: bool,
    ) -> int:
        """Write the receipt for what is durable now; how many blobs it calls missing. ``versions``: None for a
        tier, which has none of its own.

        ``present``: segments that lay in an inbox when it was listed, taken or not; unless that ``is_all``, no other
        is missing. While one of them waits, the head does not count as answered: it might vanish before it is taken. As
        long as an inbox cannot be reached, what is not in the others is not missing. Nor does it before the ``final``
        one of a pass: what can be committed now is not committed yet, and nothing else might call for another pass.
        """
        self._waits = False
        self._looks_left, self._rejected_left = MAX_LOOKED_FOR if is_all else 0, MAX_NAMED_REJECTED
        parcels = [self._parcel(segments, parcel, present) for parcel in (head.parcels if head else ())]
        count = self._put(self._sender, versions, parcels)
        if head is not None and final and is_all and not self._waits and not self._inboxes.failures:
            self._top.state.put({answered_fact(self._sender): str(head.serial)})
        return count

    def write_about(self, client: Client, versions: ClientRows) -> int:
        """Write to the sender, a tier, what is durable of a client for which it speaks; how many blobs are missing."""
        return self._put(client, versions, ())

    def _put(self, about: Client, versions: ClientRows | None, parcels: Sequence[ParcelReceipt]) -> int:
        missing = versions.missing(MAX_RECEIPT_BLOBS) if versions else []
        told = self._top.versions_named(about, versions.versions()) if versions else []
        newest = newest_committed(told)
        receipt = Receipt(
            serial=self._top.state.next_serial(f"receipt:{about.fingerprint.hex()}"),
            parcels=parcels,
            missing=[(BlobType(key[0]), BlobId(key[1:])) for key in missing],
            versions=[_version(row) for row in _recent(told)],
            committed=newest.number if newest else 0,
            committed_record=newest.hash if newest else b"",
        )
        data = write_receipt(
            receipt,
            self._top.identity.signing,
            client=self._sender.key,
            sealing=self._sender.sealing,
            group=self._top.group,
            issued_s=int(time.time()),
            about=b"" if about.fingerprint == self._sender.fingerprint else about.fingerprint,
        )
        name = answer_name(folder_id(about.key, self._top.group), Answer.RECEIPT)
        for inbox in self._inboxes.reachable(self._homes):
            with self._inboxes.using(inbox):
                inbox.put(name, data, overwrite=True)
        return len(missing)

    def _parcel(self, segments: ClientRows, parcel: HeadParcel, present: Set[tuple[bytes, int]]) -> ParcelReceipt:
        done = segments.taken(parcel.id)
        rejected = list(islice((segment for segment in done if segment.reason), self._rejected_left))
        self._rejected_left -= len(rejected)
        missing: list[int] = []
        taken = parcel.segments
        for index in _others(segments.taken(parcel.id), parcel.segments):
            if len(missing) == MAX_RECEIPT_INDEXES or not self._looks_left:  # a later receipt names the rest
                taken = min(taken, index)
                break
            if (parcel.id, index) in present or self._has_arrived(parcel.id, index):
                taken = min(taken, index)
                self._waits = True
            else:
                missing.append(index)
        return ParcelReceipt(
            id=parcel.id,
            taken=taken,
            digest=b"",
            rejected=[
                RejectedSegment(index=index, object=sha256, reason=reason[:MAX_REASON_CHARS])
                for index, sha256, reason in rejected[:MAX_RECEIPT_INDEXES]
            ],
            missing=missing,
        )

    def _has_arrived(self, parcel_id: bytes, index: int) -> bool:
        """Whether a segment came after the inboxes were listed; heads are read later than that."""
        self._looks_left -= 1
        if self._inboxes.failures:
            return True  # it may lie where we cannot look
        name = segment_name(self._folder, parcel_id, index)
        for inbox in self._inboxes:
            try:
                inbox.stat(name)
            except NotFoundError:
                continue
            except RemoteError:
                return True
            return True
        return False


def _others(segments: Iterable[TakenSegment], count: int) -> Iterator[int]:
    """The indexes below ``count`` of which none of ``segments``, ascending, is."""
    first = 0
    for segment in segments:
        if segment.idx >= count:
            break
        yield from range(first, segment.idx)
        first = segment.idx + 1
    yield from range(first, count)


def _recent(versions: Sequence[VersionRow]) -> list[VersionRow]:
    by_age = sorted(versions, key=lambda row: (row.state is VersionState.PENDING, row.place))
    return sorted(by_age[-_RECENT_VERSIONS:], key=lambda row: (row.number, row.hash))


def _version(row: VersionRow) -> VersionReceipt:
    return VersionReceipt(
        number=row.number,
        state=_STATES[row.state],
        record=row.hash,
        snapshot=row.snapshot,
        reason=row.reason[:MAX_REASON_CHARS],
    )
