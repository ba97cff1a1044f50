"""Answers to *missing*: the first tier that has the bytes answers.

What is asked for goes up from the retained versions, whole, in front of the queue. What is not here is asked of
the client, which keeps it until its version is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import cache, partial
from itertools import groupby

import zstandard

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import CdrError
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import MAX_DATA_BLOB_BYTES, PLAIN, BlobId, BlobType, Payload
from cdr_plugin.reducing.parcel_writer import ParcelWriter
from cdr_plugin.reducing.passing import full_text
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.reducing.uplink_state import Forwarded
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.tier import news_fact
from cdr_plugin.top.verify import Verifier

_LEVEL = 3
_ZSTD = "zstd/1"


def answer_asked(tier: ReducingTier, uplink: Uplink, reporter: Reporter) -> None:
    """Spool what the tier above lacks and what was lost on the way, under ``send.lock``."""
    state = uplink.state
    state.close_parcels(answers=True)
    asked, lost, records = state.asked(), [blob.key for blob in state.wanted.all()], state.records_to_repeat()
    if asked or lost or records:
        with ExitStack() as stack:
            answering = _Answering(tier, uplink, stack)
            stack.callback(answering.writer.close)
            answering.answer(asked)
            sent_anew = answering.send_anew(lost)
            answering.repeat(records)
            answering.writer.flush()
            answering.ask_below(reporter)  # before it is noted that nothing is to be answered any more
            state.answered(answering.done)
            state.drop_wanted(sent_anew)
            if answering.is_full():
                reporter.note(f"tier {tier.name}: no room in the spool for all that is asked for; the rest goes later")


class _Answering:
    def __init__(self, tier: ReducingTier, uplink: Uplink, stack: ExitStack) -> None:
        self._tier = tier
        self._clients = {client.fingerprint: client for client in tier.register.makers(tier.group)}
        self._rows = cache(tier.state.client)
        self._verifier = Verifier(tier.decoder, MAX_DATA_BLOB_BYTES)
        self._reader = self._open(stack)
        self.writer = ParcelWriter(uplink, answers=True)
        self.done: list[tuple[bytes, bytes]] = []
        self._not_here: list[tuple[bytes, bytes]] = []
        self._uplink = uplink
        self._looked_at = 0
        self._is_full = False

    def is_full(self) -> bool:
        """Must the rest wait until something of this has gone? Never before a first segment, or a spool that waits for
        these answers would wait for itself. A top tier that has lost its repository asks for everything."""
        if self.writer.bytes > self._looked_at:
            self._looked_at = self.writer.bytes
            self._is_full = full_text(self._uplink) is not None
        return self._is_full

    def _open(self, stack: ExitStack) -> RepositoryReader | None:
        """The retained versions; without them everything is asked of the clients."""
        try:
            repository = stack.enter_context(closing(self._tier.open_repository()))
            return stack.enter_context(repository.reading())
        except CdrError:
            return None

    def answer(self, asked: Sequence[tuple[bytes, bytes]]) -> None:
        """``asked``: client and key, by key. A blob that several ask for goes up once, and is attested."""
        for key, rows in groupby(asked, key=lambda row: row[1]):
            if self.is_full():
                return
            fingerprints = [client for client, _ in rows]
            owners = [self._clients[one] for one in fingerprints if self._possesses(one, key)]
            sent = self._send(key, owners)
            served = {owner.fingerprint for owner in owners} if sent else set()
            self.done += [(one, key) for one in fingerprints]
            self._not_here += [(one, key) for one in fingerprints if one not in served]

    def send_anew(self, keys: Sequence[bytes]) -> Sequence[bytes]:
        """What was in a segment that is lost; what is not here is asked for when a version needs it. Those of the keys
        that are dealt with."""
        for at, key in enumerate(keys):
            if self.is_full():
                return keys[:at]
            self._send(key, [client for one, client in self._clients.items() if self._possesses(one, key)])
        return keys

    def repeat(self, records: Sequence[Forwarded]) -> None:
        for record in records:
            client = self._clients.get(record.client)
            if client is not None:
                self.writer.version(client, record.number, record.signed)

    def ask_below(self, reporter: Reporter) -> None:
        """Have the clients asked for what is not here, by their next receipt."""
        for fingerprint, rows in groupby(sorted(self._not_here), key=lambda row: row[0]):
            if fingerprint in self._clients:
                keys = [key for _, key in rows]
                self._rows(fingerprint).disown(keys)
                self._rows(fingerprint).checkpoint()
                self._tier.state.put({news_fact(self._clients[fingerprint]): "1"})
                reporter.note(
                    f"client {self._clients[fingerprint].name}: {len(keys)} blobs are missing above and not kept here; "
                    "the client is asked for them"
                )

    def _possesses(self, fingerprint: bytes, key: bytes) -> bool:
        return fingerprint in self._clients and self._rows(fingerprint).possesses(key)

    def _send(self, key: bytes, owners: Sequence[Client]) -> bool:
        """One client's delivery of it, and for the others that they delivered it too; False when it is not here."""
        if not owners or key in self.writer.fresh:
            return bool(owners)
        type_, id_ = BlobType(key[0]), BlobId(key[1:])
        data = self._read(type_, id_)
        if data is None:
            return False
        self.writer.payload(owners[0], _encoded(type_, id_, data))
        for other in owners[1:]:
            self.writer.attest(other, [(type_, id_)])
        return True

    def _read(self, type_: BlobType, id_: BlobId) -> bytes | None:
        """None when it is not here, or cannot be read: one bad sector stops nothing else, the client is asked."""
        for copy in self._copies(type_, id_):
            try:
                return copy()
            except CdrError:
                continue
        return None

    def _copies(self, type_: BlobType, id_: BlobId) -> Iterator[Callable[[], bytes]]:
        if self._reader is not None:
            yield partial(self._reader.read, type_, id_)
        for client in self._tier.register.clients(self._tier.group) if type_ is BlobType.TREE else ():
            held = self._rows(client.fingerprint).held(id_)
            if held is not None:
                yield partial(self._verifier.decode, held)


def _encoded(type_: BlobType, id_: BlobId, data: bytes) -> Payload:
    frame = zstandard.ZstdCompressor(level=_LEVEL).compress(data)
    if len(frame) < len(data):
        return Payload(type_, id_, _ZSTD, len(data), frame)
    return Payload(type_, id_, PLAIN, len(data), data)
