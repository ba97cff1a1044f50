"""Taking in a baseline: what the operator of the top tier let this client adopt.

The order of durable actions is that of docs/design/adoption.md. Blobs count as known part by part; the
catalog and the version to continue from come when all parts are here. What was taken in is never
fetched again, and a run that was killed is continued by the next.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from cdr_plugin.client.adopted_catalog import write_catalog
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.state import VersionRow, blob_key
from cdr_plugin.client.states import VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import read_keys_of_tier
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import AuthenticationError, FormatError, NotConvenientError, NotFoundError
from cdr_plugin.files import TEMPORARY_PREFIX, exclusive, sync_folder
from cdr_plugin.identity.documents import MAX_DOCUMENT_BYTES
from cdr_plugin.parcel.baseline import Baseline, read_baseline, read_blob_part, read_facts_part
from cdr_plugin.parcel.limits import MAX_BASELINE_PART_BYTES
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id, part_name
from cdr_plugin.parcel.sealed import Addressee
from cdr_plugin.reporter import Reporter

_MAX_PART_OBJECT_BYTES = MAX_BASELINE_PART_BYTES + 64 * 1024
"""With envelope and seal; what is larger is not read to its end, and fails by its hash."""


@dataclass(frozen=True, slots=True)
class Taken:
    """``blobs``: how many need not be sent; ``number``: of the version that the client's next one follows,
    where the top tier knows a newer one than the client, else 0."""

    snapshot: str
    time: str
    blobs: int
    number: int

    @property
    def text(self) -> str:
        """One line for people."""
        follows = f"; the next version follows version {self.number}" if self.number else ""
        return f"adopted version {self.snapshot[:8]} of {self.time[:19]}: {self.blobs} blobs need not be sent{follows}"


def fetch_baseline(client: ClientTier, reporter: Reporter) -> Taken | None:
    """Contact the storage for the baseline alone; as ``take_baseline``."""
    with (
        exclusive(client.state_folder / "send.lock", f"sending of {client.name}"),
        client.plugins.transport(client.to) as storage,
    ):
        folder = folder_id(client.identity.signing.public, client.ticket.group)
        read_keys_of_tier(client, [storage], folder, reporter)
        return take_baseline(client, storage, folder, reporter)


def take_baseline(client: ClientTier, storage: Transport, folder: str, reporter: Reporter) -> Taken | None:
    """Take in the client's baseline; None when this very one has been taken before.

    Under ``send.lock``. NotFoundError when there is none, NotConvenientError when parts have not arrived or a
    backup is running, IntegrityError for what is not ours, old, torn or mixed; blobs taken so far stay known.
    """
    data = storage.get(answer_name(folder, Answer.BASELINE), 0, MAX_DOCUMENT_BYTES + 1)
    ticket = client.ticket
    addressee = Addressee(
        client.identity.sealing_keys(ticket.group),
        ticket.top,
        client.identity.signing.public,
        ticket.group,
        time.time(),
    )
    baseline = read_baseline(data, addressee)
    last = int(client.state.get("baseline_serial") or b"0")
    if baseline.serial < last:
        raise AuthenticationError(f"baseline: serial {baseline.serial} is older than {last}, seen before: replayed")
    if baseline.serial == last:
        return None
    return _Taking(client, storage, folder, baseline, addressee, reporter).run()


class _Taking:
    def __init__(
        self,
        client: ClientTier,
        storage: Transport,
        folder: str,
        baseline: Baseline,
        addressee: Addressee,
        reporter: Reporter,
    ) -> None:
        self._client = client
        self._state = client.state
        self._storage = storage
        self._folder = folder
        self._baseline = baseline
        self._addressee = addressee
        self._reporter = reporter

    def run(self) -> Taken:
        baseline = self._baseline
        parcel = self._state.baseline_parcel(baseline.series)
        blobs = self._take_blobs(parcel)
        # A run of 'cdr backup' that is under way has its number and catalog already.
        with exclusive(self._client.state_folder / "backup.lock", f"backup of {self._client.name}"):
            newest = self._newest()
            if len(baseline.parts) > baseline.blob_parts:
                self._make_catalog(newest)
            self._state.end_baseline(baseline.serial, newest)
        return Taken(baseline.snapshot, baseline.time, blobs, newest.number if newest else 0)

    def _take_blobs(self, parcel: int) -> int:
        """Record the parts that are not recorded yet; how many blobs all of them make known."""
        recorded = self._state.baseline_parts(parcel)
        count = sum(recorded.values())
        for number in range(self._baseline.blob_parts):
            if number not in recorded:
                refs = read_blob_part(self._get(number), self._baseline, number, self._addressee)
                self._state.add_baseline_part(parcel, number, b"".join(blob_key(*ref) for ref in refs))
                count += len(refs)
                self._reporter.progress(blobs_adopted=count)
        return count

    def _get(self, number: int) -> bytes:
        name = part_name(self._folder, Answer.BASELINE, number)
        try:
            return self._storage.get(name, 0, _MAX_PART_OBJECT_BYTES)
        except NotFoundError:
            raise NotConvenientError(
                f"client {self._client.name}: part {number} of the baseline is not in the storage; it may be on its "
                "way, try again later, or run 'cdr adopt' at the top tier again"
            ) from None

    def _newest(self) -> VersionRow | None:
        """What the top tier knows as our newest version, unless we have one of its number or a later one."""
        baseline, own = self._baseline, self._state.newest_version()
        if baseline.number <= (own.number if own else 0):
            return None
        state = VersionState.COMMITTED if baseline.tree else VersionState.STORED
        return VersionRow(baseline.number, b"", b"", baseline.record, baseline.tree, baseline.time, state)

    def _make_catalog(self, newest: VersionRow | None) -> None:
        """The catalog for the next version, unless there is one that a version of ours left."""
        last = newest or self._state.newest_version()
        final = self._state.catalog_path(last.number if last else 0, self._state.catalog_generation)
        if last is not None and last.record and final.exists():
            return
        temporary = self._state.folder / f"{TEMPORARY_PREFIX}adopted-catalog"
        try:
            write_catalog(temporary, self._facts(), KnownBlobs(self._state.known()), self._baseline.time)
        except FormatError as error:
            self._reporter.note(f"client {self._client.name}: {error}; the next backup reads all files")
            return
        temporary.replace(final)
        sync_folder(self._state.folder)

    def _facts(self) -> Iterator[bytes]:
        for number in range(self._baseline.blob_parts, len(self._baseline.parts)):
            yield read_facts_part(self._get(number), self._baseline, number, self._addressee)
