"""One client within one pass of a receiving tier: its blobs are stored, its versions committed and answered.

Who sends may be another: a tier that speaks for the client. Trees of unfinished versions are held in the rows
of the sender, since one that several of its clients have travels once.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC

from cdr_plugin.contracts import Event as Happening
from cdr_plugin.contracts import RepositoryPass
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time, time_formatter
from cdr_plugin.parcel.blobrefs import BlobRef
from cdr_plugin.parcel.version import SignedVersionRecord
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.commit import Committer, admit
from cdr_plugin.top.deltas import Deltas
from cdr_plugin.top.inbox import Inboxes
from cdr_plugin.top.kept_opaque import KeptOpaque
from cdr_plugin.top.onward import Onward
from cdr_plugin.top.pins import adoption_path, renew_pin
from cdr_plugin.top.publish import adopted_fact, withdraw
from cdr_plugin.top.rebuild import rebuild
from cdr_plugin.top.result import ReceiveResult
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.state import ClientRows, data_ids
from cdr_plugin.top.tier import TopTier
from cdr_plugin.top.usage import Usage
from cdr_plugin.top.verify import Delta, VerifiedBlob, Verifier

BLOB_COST_BYTES = 512
"""What a blob counts besides its bytes: of rows in memory and in the state. 20 MiB may hold 400,000."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass: what all its clients share."""

    top: TopTier
    repo: RepositoryPass
    snapshots: Snapshots
    max_data_bytes: int
    inboxes: Inboxes
    onward: Onward
    reporter: Reporter
    result: ReceiveResult
    added: defaultdict[bytes, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    """Per sender (a fingerprint) the keys of the blobs that became blobs of the repository, end to end."""

    def verifier(self) -> Verifier:
        """A new one for one thread."""
        return Verifier(self.top.decoder, self.max_data_bytes, passes_unknown=not self.top.is_end)


class Subject:
    """``trees``: the rows that hold trees of unfinished versions."""

    def __init__(self, pass_: Pass, client: Client, rows: ClientRows, trees: ClientRows) -> None:
        self.client = client
        self.rows = rows
        self.is_touched = True
        """Did something come since the last checkpoint? Of a thousand clients of one tier most wait meanwhile."""
        self._pass = pass_
        self._repo = pass_.repo
        self._trees = trees
        self._verifier = pass_.verifier()
        self._added = pass_.added[client.via or client.fingerprint]
        self._deltas = Deltas(pass_.repo, rows, trees, self._verifier, asks=pass_.top.is_end)
        self.usage = Usage(pass_.top.state, client)
        self._opaque = KeptOpaque(pass_.top.state, client)
        if rows.is_new():
            rebuild(pass_.repo, pass_.snapshots, rows, client, pass_.reporter)
            if rows.versions():
                self.usage.lose()

    # --- what came ---

    def store(self, blobs: Sequence[VerifiedBlob | Delta], stored: Callable[[int], None]) -> None:
        """Store what can be verified, and pass it on; ``stored`` is told the cost of each."""
        self.is_touched = True
        for found in blobs:
            payload = found.payload
            blob = self._deltas.decode(found) if isinstance(found, Delta) else found
            if blob is not None:
                stored(self._store_one(blob, len(payload.data)))
                self._pass.onward.blob(self.client, payload)
            elif isinstance(found, Delta):
                if self._opaque.is_new(bytes((payload.type,)) + payload.id):
                    self.usage.add(len(payload.data))
                    self._pass.onward.opaque(self.client, payload)
                stored((1 + len(found.bases)) * BLOB_COST_BYTES)

    def end_segments(self, *, stay: bool) -> None:
        """What came since the last time was all of some segments. Do they ``stay`` in the inbox, to come again?"""
        self._opaque.end(comes_again=stay)

    def save_counts(self) -> None:
        self.usage.save()
        self._opaque.save()

    def _store_one(self, blob: VerifiedBlob, delivered: int) -> int:
        """Its cost; ``delivered``: bytes in which it came."""
        payload = blob.payload
        if payload.type is BlobType.DATA:
            new = self._repo.add(payload.type, payload.id, blob.data, payload)
            if new:
                self._added += bytes((payload.type,)) + payload.id
            self._deltas.remember(payload.type, payload.id, blob.data)
        else:
            new = not self._is_here(payload.type, payload.id)
            if new:
                self._trees.hold(payload)
        key = bytes((payload.type,)) + payload.id
        if new or not self.rows.possesses(key):
            self.usage.add(delivered)
        self.rows.possess(key)
        if new:
            self._pass.result.blobs_new += 1
        else:
            self._pass.result.blobs_duplicate += 1
        return len(payload.data) + BLOB_COST_BYTES

    def attest(self, blobs: Sequence[BlobRef]) -> None:
        """The client delivered these to the tier that sends. What is not here is not possessed: a version that
        needs it finds it missing."""
        self.is_touched = True
        for type_, id_ in blobs:
            if self._is_here(type_, id_):
                self.rows.possess(bytes((type_,)) + id_)
        self._pass.result.blobs_duplicate += len(blobs)
        self._pass.onward.attested(self.client, blobs)

    def _is_here(self, type_: BlobType, id_: BlobId) -> bool:
        return self._repo.has(type_, id_) or (type_ is BlobType.TREE and self._trees.holds(id_))

    def admit(self, signed: SignedVersionRecord) -> None:
        self.is_touched = True
        number = admit(self.rows, signed, self.client, _now(), self._pass.reporter.note)
        if number is not None:
            self._pass.onward.version(self.client, number, signed)

    # --- versions ---

    def commit(self, has_all: Callable[[], bool], nothing_waits: Callable[[], bool]) -> None:
        """``has_all``: was everything taken that the sender announces? ``nothing_waits``: is what it sent so far
        taken, or known to be lost?"""
        self._pass.top.settle_above(self.client, self.rows)
        committer = Committer(
            self._repo,
            self._pass.snapshots,
            self.rows,
            self._trees,
            self.client,
            self._verifier,
            self._pass.reporter.note,
            has_all,
            nothing_waits if self._pass.top.is_end else lambda: False,
        )
        committed = committer.run()
        self._added += committer.added_trees
        for version in committed:
            self._pass.result.versions_stored += 1
            self._pass.result.snapshots.append(version.snapshot_id)
            facts = {"client": version.client, "version": version.number, "snapshot_id": version.snapshot_id}
            for problem in self._pass.top.plugins.emit(Happening("version-stored", self._pass.top.name, facts)):
                self._pass.reporter.note(problem)
        warning = self.usage.versions_committed([version.number for version in committed])
        if warning:
            self._pass.reporter.error(f"client {self.client.name}", "receive", warning)
        if committed:
            self._end_adoption(committed[-1].time)

    def _end_adoption(self, newest: str) -> None:
        """A version that the client made since keeps now what it needs of the one that it adopted. One
        made before says nothing: the client may not have seen its baseline yet."""
        pins = self._pass.snapshots.pins(adoption_path(self.client.fingerprint))
        since = self._pass.top.state.get(adopted_fact(self.client)) if pins else None
        if since is not None and parse_time(newest) <= parse_time(since.decode()):
            return
        for pin in pins:
            for inbox in self._pass.inboxes:
                with self._pass.inboxes.using(inbox):
                    withdraw(inbox, self.client)
            self._pass.snapshots.remove(pin)

    def pin(self) -> None:
        """Blobs that the repository lost, as when somebody removed the pin, cannot be pinned: the
        client is asked for them."""
        unreached = self.rows.unreached()
        lost = [key for key in unreached if not self._repo.has(BlobType.DATA, BlobId(key[1:]))]
        if self._pass.top.is_end:
            self.rows.disown(lost)
        kept = _without(unreached, lost)
        renew_pin(self._repo, self._pass.snapshots, self.client.fingerprint, data_ids(kept))

    def report(self) -> None:
        """Say what did not decode."""
        if self._deltas.undelivered and self._pass.top.is_end:
            self._pass.reporter.note(
                f"client {self.client.name}: {self._deltas.undelivered} payloads did not decode and are not counted "
                f"as delivered, the first: {self._deltas.problem}; the client sends whole what is missing then"
            )


def _without(keys: list[bytes], others: Iterable[bytes]) -> list[bytes]:
    gone = set(others)
    return sorted(set(keys) - gone) if gone else keys


def _now() -> str:
    now_s = time.time()
    return time_formatter(UTC)(int(now_s), int(now_s % 1 * 1e9))
