"""Committing versions: each behind the one that it follows, when everything it reaches is possessed and stored.

Versions follow each other by the hash of the record before. Numbers go up by one along such a chain, and are
given twice where chains part: see 'Forks' in docs/design/top-tier.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from cdr_plugin.contracts import RepositoryPass, StoredVersion
from cdr_plugin.errors import CdrError, NotFoundError
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.parcel.version import SignedVersionRecord, VersionRecord, verify_version_record
from cdr_plugin.retention.received import received_tag
from cdr_plugin.top.reachability import Reached, Sources, reach
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.state import ClientRows, VersionRow, VersionState
from cdr_plugin.top.verify import Verifier
from cdr_plugin.top.version_tags import VersionTag

_TREE = bytes((BlobType.TREE,))

RESERVED_TAGS = "cdr-"
"""What starts so is written by tiers alone: a client could claim another's versions otherwise."""
MAX_REJECTED = 100
"""Rejected records that are remembered for the receipts of one client; a hostile one makes millions."""
MAX_STRAYS = 100
"""Records of one client that wait for a predecessor of which nothing is known. An honest one has a few, as
when storages are read in another order than they were written in."""
MAX_PENDING_BYTES = 64 * 1024 * 1024
"""Of records of one client that wait. All are in memory when its versions are looked at, and one may have 4 MiB."""
FORK = "a fork: another version follows the same one (two machines with one identity, an older state, a lost one)"

_NUMBER = "its number and its previous version contradict each other"


@dataclass(frozen=True, slots=True)
class Committed:
    """A version whose snapshot is in the repository; ``time`` as there (RFC 3339)."""

    number: int
    snapshot_id: str
    client: str
    time: str


class Committer:
    """Commits what is complete for one client in one pass."""

    def __init__(
        self,
        repo: RepositoryPass,
        snapshots: Snapshots,
        rows: ClientRows,
        trees: ClientRows,
        client: Client,
        verifier: Verifier,
        note: Callable[[str], None],
        nothing_on_the_way: Callable[[], bool],
        may_ask: Callable[[], bool],
    ) -> None:
        """``trees``: the rows that hold trees of unfinished versions. ``nothing_on_the_way``: has everything
        arrived that the client says it sent? ``may_ask``: has everything that it sent so far arrived, or is it
        known to be lost, so that what is missing now is?"""
        self._repo = repo
        self._snapshots = snapshots
        self._rows = rows
        self._trees = trees
        self._client = client
        self._verifier = verifier
        self._note = note
        self._nothing_on_the_way = nothing_on_the_way
        self._may_ask = may_ask
        self.added_trees = bytearray()
        """Keys, end to end, of the trees that became blobs of the repository."""

    def run(self) -> list[Committed]:
        """Every version that can be committed now, lowest number first.

        An incomplete version waits for its blobs, until a later one of the client is complete: then
        it is closed, since a client that sent on will not come back for it.
        """
        done: list[Committed] = []
        incomplete: list[VersionRow] = []
        for row in self._in_order():
            committed = self._commit(row)
            if committed is None:
                incomplete.append(row)
                continue
            for earlier in [other for other in incomplete if other.number < row.number]:
                self._close(earlier)
                incomplete.remove(earlier)
            done.append(committed)
        if done and not incomplete:
            self._rows.absolve()
        return done

    def _in_order(self) -> list[VersionRow]:
        """Pending versions each of which follows one that is settled, or one before it in the list."""
        versions = self._rows.versions()
        known = {row.hash: row for row in versions}
        found: dict[bytes, VersionRow] = {}
        for row in versions:
            if row.state is VersionState.PENDING and self._may_follow(row, known.get(row.previous), found, versions):
                found[row.hash] = row
        return list(found.values())

    def _may_follow(
        self, row: VersionRow, before: VersionRow | None, found: dict[bytes, VersionRow], versions: list[VersionRow]
    ) -> bool:
        if not row.previous:
            return True
        if before is None:
            if self._lost_those_before(row, versions):
                return True
            self._wait(row)
            return False
        if row.number != before.number + 1:  # it came before the one that it follows
            self._rows.settle(replace(row, record=b"", signature=b""), VersionState.REJECTED, reason=_NUMBER)
            self._note(f"client {self._client.name}: version {row.number} rejected: {_NUMBER}")
            return False
        if before.state is VersionState.PENDING and before.hash not in found:
            self._wait(row)
            return False
        return True

    def _wait(self, row: VersionRow) -> None:
        """Nothing is to be done for it until something arrives."""
        if not row.reason:
            self._rows.settle(row, VersionState.PENDING, reason="a version that it follows has not arrived yet")

    def _lost_those_before(self, row: VersionRow, versions: list[VersionRow]) -> bool:
        """Were the versions before this one committed, and lost with state and repository?

        What is known was then rebuilt from the repository, maybe an older copy of it, and no predecessor will come.
        """
        settled = [v for v in versions if v.state in (VersionState.COMMITTED, VersionState.INCOMPLETE)]
        is_rebuilt = not settled or any(not v.signature for v in settled)
        if not is_rebuilt or not self._nothing_on_the_way():
            return False
        self._note(
            f"client {self._client.name}: version {row.number} follows versions that are not in the repository any "
            "more; it is taken as the next one"
        )
        return True

    def _record(self, row: VersionRow) -> VersionRecord:
        signed = SignedVersionRecord(row.record, row.signature)
        return verify_version_record(signed, client=self._client.key, group=self._client.group)

    def _close(self, row: VersionRow) -> None:
        reason = "closed as incomplete: blobs are missing, and a later version is complete"
        self._rows.settle(replace(row, record=b""), VersionState.INCOMPLETE, reason=reason)
        self._note(f"client {self._client.name}: version {row.number} {reason}")

    def _commit(self, row: VersionRow) -> Committed | None:
        record = self._record(row)
        present = self._find(row)
        base = self._base(row)
        base_tree = BlobId(bytes.fromhex(base.snapshot.tree)) if base else None
        reached = reach(BlobId(record.tree), base_tree, self._sources())
        if reached.missing:
            self._want(row, reached.missing)
            return None
        self._store_trees(reached)
        snapshot_id = present.id if present else self._snapshots.add(self._snapshot(row, record, base))
        self._rows.reach([_TREE + id_ for id_ in reached.trees])
        self._rows.reach(reached.data)
        self._trees.release(reached.trees)
        reason = FORK if is_fork(row, self._rows.versions()) else ""
        # What it says is in the snapshot; without its signature it would pass for one rebuilt from there.
        self._rows.settle(replace(row, record=b""), VersionState.COMMITTED, snapshot=snapshot_id, reason=reason)
        return Committed(row.number, snapshot_id, self._client.name, row.time)

    def _want(self, row: VersionRow, missing: set[bytes]) -> None:
        """Ask for blobs; the same answer whether or not somebody else's copy is in the repository."""
        if not self._may_ask():
            self._rows.settle(row, VersionState.PENDING, reason="segments have not arrived yet")
            return
        # What it delivered and cannot be read any more is not worth holding. What others delivered is not its to lose.
        self._trees.release(key[1:] for key in missing if key[0] == BlobType.TREE and self._rows.possesses(key))
        self._rows.disown(missing)
        self._rows.settle(row, VersionState.PENDING, reason=f"{len(missing)} blobs are missing")
        if row.reason != f"{len(missing)} blobs are missing":
            self._note(
                f"client {self._client.name}: version {row.number} waits for {len(missing)} blobs that it refers to "
                "but that the client did not deliver, or that the repository lost; the client sends them again"
            )

    def _find(self, row: VersionRow) -> StoredVersion | None:
        """The snapshot of this very version, if a pass that crashed has written it already."""
        return self._snapshots.find(VersionTag.of(self._client.fingerprint, row.number, row.hash))

    def _base(self, row: VersionRow) -> StoredVersion | None:
        """The version that it follows, else the client's newest earlier one, if its snapshot is present now."""
        found = [
            ((tag.record_hash == row.previous, tag.number), version)
            for tag, version in self._snapshots.of_client(self._client.fingerprint)
            if tag.number < row.number
        ]
        return max(found, key=lambda item: item[0])[1] if found else None

    def _sources(self) -> Sources:
        return Sources(self._rows.possesses, self._repo.has, self.read_tree)

    def read_tree(self, id_: BlobId) -> bytes:
        """A tree that is held for its version, or in the repository."""
        held = self._trees.held(id_)
        if held is not None:
            return self._verifier.decode(held)
        if not self._repo.has(BlobType.TREE, id_):
            raise NotFoundError(f"tree {id_.hex()[:10]} is not here")
        return self._repo.read(BlobType.TREE, id_)

    def _store_trees(self, reached: Reached) -> None:
        for id_ in reached.trees:
            held = self._trees.held(id_)
            if held is not None and not self._repo.has(BlobType.TREE, id_):
                self._repo.add(BlobType.TREE, id_, self._verifier.decode(held), held)
                self.added_trees += _TREE + id_

    def _snapshot(self, row: VersionRow, record: VersionRecord, base: StoredVersion | None) -> Snapshot:
        return Snapshot(
            time=row.time,
            parent=base.id if base else "",
            tree=record.tree.hex(),
            paths=list(record.paths),
            hostname=self._client.hostname,
            username=record.username,
            uid=record.uid,
            gid=record.gid,
            excludes=list(record.excludes),
            tags=[
                *record.tags,
                str(VersionTag.of(self._client.fingerprint, row.number, row.hash)),
                received_tag(time.time()),
            ],
            program_version=record.program_version,
            summary=record.summary,
        )


def admit(
    rows: ClientRows, signed: SignedVersionRecord, client: Client, now: str, note: Callable[[str], None]
) -> int | None:
    """Take a version record in: verify it against the client's chains, or reject it with the reason. Its number,
    None when it is no version of the client.

    Replays change nothing. One that follows the same version as another is a fork: both are taken.
    """
    try:
        record = verify_version_record(signed, client=client.key, group=client.group)
    except CdrError as error:
        note(f"client {client.name}: a version record was refused: {error}")
        return None
    known = rows.versions()
    before = next((v for v in known if v.number == record.number and v.hash == signed.hash), None)
    if before is not None:
        return None if before.state is VersionState.REJECTED else record.number
    time = _sane_time(record, known, client, now, note)
    row = VersionRow(
        record.number, signed.body, signed.signature, signed.hash, record.previous, VersionState.PENDING, time
    )
    reason = _objection(record, known)
    if reason:
        note(f"client {client.name}: version {record.number} rejected: {reason}")
        if sum(v.state is VersionState.REJECTED for v in known) < MAX_REJECTED:
            rows.settle(replace(row, record=b"", signature=b""), VersionState.REJECTED, reason=reason)
        return None
    rows.add_version(row)
    if is_fork(row, known):
        note(
            f"client {client.name}: version {row.number} is {FORK}; it is stored beside the other. If one of two "
            "machines is a copy of the other, enrol it anew under a name of its own"
        )
    return record.number


def is_fork(row: VersionRow, versions: Iterable[VersionRow]) -> bool:
    """Does another version follow the same one, or is there another first one? What was rebuilt from a
    repository does not say what it follows: then the number tells."""
    return any(
        other.hash != row.hash
        and other.number == row.number
        and other.state is not VersionState.REJECTED
        and (other.previous == row.previous or not other.previous)
        for other in versions
    )


def _objection(record: VersionRecord, known: list[VersionRow]) -> str:
    """Why the record cannot be a version of this client; empty when it can."""
    if any(tag.startswith(RESERVED_TAGS) for tag in record.tags):
        return f"tags that start with {RESERVED_TAGS!r} are not the client's to give"
    if (record.number == 1) != (not record.previous):
        return _NUMBER
    before = {v.hash: v for v in known}.get(record.previous)
    if before is not None and record.number != before.number + 1:
        return _NUMBER
    if record.previous and before is None and _strays(known) >= MAX_STRAYS:
        return "too many versions wait for others that did not come"
    if sum(len(v.record) for v in known if v.state is VersionState.PENDING) > MAX_PENDING_BYTES:
        return "the versions that wait take too much memory"
    return ""


def _strays(known: list[VersionRow]) -> int:
    """How many versions wait for one of which nothing is known."""
    hashes = {v.hash for v in known}
    return sum(v.state is VersionState.PENDING and bool(v.previous) and v.previous not in hashes for v in known)


def _sane_time(
    record: VersionRecord, known: list[VersionRow], client: Client, now: str, note: Callable[[str], None]
) -> str:
    """The record's time, or ``now`` when it lies in the future or not after that of the version before."""
    before = [v for v in known if v.hash == record.previous] or [
        v for v in known if v.state is not VersionState.REJECTED and v.number < record.number
    ]
    newest = max((parse_time(v.time) for v in before), default=(-(1 << 62), 0))
    if newest < parse_time(record.time) <= parse_time(now):
        return record.time
    note(f"client {client.name}: version {record.number} claims the time {record.time}; the receipt time is used")
    return now
