"""Answers to *missing*: blobs that the tiers above asked for go again, whole, in a parcel in front of the queue.

They come from held segments, from the baseline, from the source files that catalogs name, and as the last
resort from a held delta whose bases can be had here. What nobody has any more is struck, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

from cdr_plugin import __version__
from cdr_plugin.baseline import Baseline
from cdr_plugin.client.held import HeldSegments, PayloadReader
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.recipes import source_blobs
from cdr_plugin.client.rows import blob_key
from cdr_plugin.client.spooler import Spooler
from cdr_plugin.client.state import VersionRow
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.wanted import WantedBlob
from cdr_plugin.contracts import FetchBlob
from cdr_plugin.errors import CdrError, IntegrityError, NotFoundError
from cdr_plugin.model.blobs import BlobId, BlobType, Payload
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.records import Preamble
from cdr_plugin.parcel.segment import Parcel
from cdr_plugin.parcel.version import chunker_id
from cdr_plugin.reporter import Reporter


def answer_wanted(client: ClientTier, need: Callable[[int], None], reporter: Reporter) -> None:
    """Spool what is wanted, and the version records that were lost with their segments. Under ``send.lock``.

    ``need`` makes room in the spool; what it raises ends the work, and what was spooled until then is known.
    Memory holds one blob, and the segments that wait to be written.
    """
    state = client.state
    state.close_parcels(answers=True)
    wanted, records = state.wanted.all(), state.versions_to_repeat()
    if wanted or records:
        _Answering(client, wanted, need, reporter).run(records)


class _Answering:
    def __init__(
        self, client: ClientTier, wanted: Sequence[WantedBlob], need: Callable[[int], None], reporter: Reporter
    ) -> None:
        self._client = client
        self._state = client.state
        self._wanted = wanted
        self._left = {blob.key for blob in wanted}
        self._reporter = reporter
        self._spooler = self._open_spooler(need)
        self._held = HeldSegments(client)
        self._reader = PayloadReader(client)

    def _open_spooler(self, need: Callable[[int], None]) -> Spooler:
        ticket = self._client.ticket
        newest = self._state.newest_version()
        preamble = Preamble(
            newest.number if newest else 1, self._client.fingerprint, chunker_id(ticket.chunker), f"cdr {__version__}"
        )
        return Spooler(
            self._state,
            self._client.spool,
            Parcel.new(self._client.identity.signing, ticket.group, ticket.sealing),
            SegmentBuilder(preamble),
            self._client.encoders,
            KnownBlobs(),
            need=need,
            answers=True,
        )

    def run(self, records: Sequence[VersionRow]) -> None:
        try:
            with ExitStack() as stack:
                self._answer(stack)
        except (CdrError, KeyboardInterrupt):
            self._spooler.keep()
            raise
        except BaseException:
            self._spooler.close()
            raise
        self._spooler.keep(records)
        self._state.repeated(records)
        self._give_up()

    def _answer(self, stack: ExitStack) -> None:
        deltas = self._from_held()
        baseline = self._client.baseline()
        stack.callback(baseline.close)
        self._from_baseline(baseline)
        self._from_source()
        if deltas & self._left:
            self._from_deltas(deltas & self._left, baseline)

    def _add(self, type_: BlobType, id_: BlobId, data: bytes) -> None:
        self._spooler.add_many(type_, [(id_, data, 0, None)])
        self._left.discard(blob_key(type_, id_))

    def _from_held(self) -> set[bytes]:
        """Blobs that a held segment carries whole; the keys of those that it carries as deltas."""
        deltas = set()
        for payload in self._payloads(self._left):
            if self._reader.needs_bases(payload):
                deltas.add(blob_key(payload.type, payload.id))
            else:
                self._add_payload(payload, _no_base)
        return deltas

    def _payloads(self, keys: set[bytes]) -> Iterator[Payload]:
        """Payloads of ``keys`` in held segments that we can read; ``keys`` may shrink meanwhile."""
        for payload in self._held.payloads([blob for blob in self._wanted if blob.key in keys]):
            if blob_key(payload.type, payload.id) in self._left and self._reader.can_read(payload):
                yield payload

    def _add_payload(self, payload: Payload, fetch: FetchBlob) -> None:
        try:
            data = self._reader.read(payload, fetch)
        except (IntegrityError, NotFoundError):
            return  # perhaps why it is missing above
        self._add(payload.type, payload.id, data)

    def _from_baseline(self, baseline: Baseline) -> None:
        for key in sorted(self._left):
            type_, id_ = BlobType(key[0]), BlobId(key[1:])
            data = baseline.get(type_, id_)
            if data is not None:
                self._add(type_, id_, data)

    def _from_source(self) -> None:
        ids = {BlobId(key[1:]) for key in self._left if key[0] == BlobType.DATA}
        for id_, data in source_blobs(self._client, ids) if ids else ():
            self._add(BlobType.DATA, id_, data)

    def _from_deltas(self, keys: set[bytes], baseline: Baseline) -> None:
        """Deltas that the receiver could not decode, because it had lost their bases."""

        def fetch(type_: BlobType, id_: BlobId) -> bytes:
            data = baseline.get(type_, id_)
            if data is None and type_ is BlobType.DATA:
                data = next((blob for _, blob in source_blobs(self._client, {id_})), None)
            if data is None:
                raise NotFoundError(f"blob {id_.hex()[:10]} is not here any more")
            return data

        for payload in self._payloads(keys):
            self._add_payload(payload, fetch)

    def _give_up(self) -> None:
        """While a run spools, the catalog of what it has sent so far is still to come."""
        if not self._left or self._state.open_parcels():
            return
        self._state.wanted.lose(self._left)
        self._reporter.error(
            f"{len(self._left)} blobs",
            "send",
            f"client {self._client.name}: missing above and changed or gone here; a version that needs them cannot be "
            "completed, the next backup reads all files and sends them as they are now",
        )


def _no_base(type_: BlobType, id_: BlobId) -> bytes:
    raise NotFoundError(f"blob {id_.hex()[:10]} is no base")
