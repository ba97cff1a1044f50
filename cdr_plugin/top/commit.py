"""Committing versions: in number order, each when everything it reaches is possessed and stored."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from cdr_plugin.contracts import RepositoryPass, StoredVersion
from cdr_plugin.errors import CdrError, NotFoundError
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.parcel.version import SignedVersionRecord, VersionRecord, verify_version_record
from cdr_plugin.top.reachability import Reached, Sources, reach
from cdr_plugin.top.state import ClientRows, VersionRow, VersionState
from cdr_plugin.top.verify import Verifier

_TREE = bytes((BlobType.TREE,))

RESERVED_TAGS = "cdr-"
"""What starts so is written by tiers alone: a client could claim another's versions otherwise."""
MAX_REJECTED = 100
"""Rejected records that are remembered for the receipts of one client; a hostile one makes millions."""
_FORK = "it does not follow the client's previous version: a fork of the client's history"

_TAG = re.compile(r"cdr-version:([A-Za-z0-9_-]{22}):([1-9][0-9]{0,18}):([A-Za-z0-9_-]{43})", re.ASCII).fullmatch


@dataclass(frozen=True, slots=True)
class VersionTag:
    """Client (16 bytes of its ID), number and record hash: marks the snapshot of one version.

    Looked for before a snapshot is written and when state is rebuilt.
    """

    client: bytes
    number: int
    record_hash: bytes

    @classmethod
    def of(cls, client: bytes, number: int, record_hash: bytes) -> VersionTag:
        return cls(client[:16], number, record_hash)

    @classmethod
    def parse(cls, tag: str) -> VersionTag | None:
        """None for any other tag."""
        match = _TAG(tag)
        if match is None:
            return None
        return cls(_unbase64(match[1]), int(match[2]), _unbase64(match[3]))

    def __str__(self) -> str:
        return f"cdr-version:{_base64(self.client)}:{self.number}:{_base64(self.record_hash)}"


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def _unbase64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def tags_of(version: StoredVersion, client: bytes) -> Iterator[VersionTag]:
    """The version tags of ``client`` that a snapshot carries: one, or none."""
    for text in version.snapshot.tags:
        tag = VersionTag.parse(text)
        if tag is not None and tag.client == client[:16]:
            yield tag


@dataclass(frozen=True, slots=True)
class Committed:
    """A version whose snapshot is in the repository."""

    number: int
    snapshot_id: str
    client: str


class Committer:
    """Commits what is complete for one client in one pass."""

    def __init__(
        self,
        repo: RepositoryPass,
        rows: ClientRows,
        client: Client,
        verifier: Verifier,
        note: Callable[[str], None],
        nothing_on_the_way: Callable[[], bool],
    ) -> None:
        """``nothing_on_the_way``: has everything arrived that the client says it sent?"""
        self._repo = repo
        self._rows = rows
        self._client = client
        self._verifier = verifier
        self._note = note
        self._nothing_on_the_way = nothing_on_the_way

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
            for earlier in incomplete:
                self._close(earlier)
            incomplete.clear()
            done.append(committed)
        return done

    def _in_order(self) -> list[VersionRow]:
        """Pending versions up to the first gap in the numbers.

        Each names the one before: a record that came before its predecessor is checked here first.
        """
        versions = self._rows.versions()
        settled = (VersionState.COMMITTED, VersionState.INCOMPLETE)
        newest = max((v for v in versions if v.state in settled), key=lambda v: v.number, default=None)
        found = []
        for row in versions:
            if row.state is not VersionState.PENDING:
                continue
            follows = row.number == (newest.number + 1 if newest else 1)
            if not follows and not self._lost_those_before(row, newest, versions):
                continue
            if follows and newest is not None and self._record(row).previous != newest.hash:
                self._rows.settle(row, VersionState.REJECTED, reason=_FORK)
                self._note(f"client {self._client.name}: version {row.number} rejected: {_FORK}")
                continue
            found.append(row)
            newest = row
        return found

    def _lost_those_before(self, row: VersionRow, newest: VersionRow | None, versions: list[VersionRow]) -> bool:
        """Were the versions between ``newest`` and ``row`` committed, and lost with state and repository?

        What is known was then rebuilt from the repository, maybe an older copy of it, and no predecessor will come.
        """
        is_rebuilt = newest is None or not newest.record
        is_later = row.number > (newest.number if newest else 0)
        rejected = any(v.number == row.number - 1 and v.state is VersionState.REJECTED for v in versions)
        if not is_rebuilt or not is_later or rejected or not self._nothing_on_the_way():
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
        self._rows.settle(row, VersionState.INCOMPLETE, reason=reason)
        self._note(f"client {self._client.name}: version {row.number} {reason}")

    def _commit(self, row: VersionRow) -> Committed | None:
        record = self._record(row)
        present = self._find(row)
        base = self._base(row.number)
        base_tree = BlobId(bytes.fromhex(base.snapshot.tree)) if base else None
        reached = reach(BlobId(record.tree), base_tree, self._sources())
        if reached.missing:
            self._want(row, reached.missing)
            return None
        self._store_trees(reached)
        snapshot_id = present.id if present else self._repo.add_version(self._snapshot(row, record, base))
        self._rows.reach([_TREE + id_ for id_ in reached.trees])
        self._rows.reach(reached.data)
        self._rows.release(reached.trees)
        self._rows.settle(row, VersionState.COMMITTED, snapshot=snapshot_id)
        return Committed(row.number, snapshot_id, self._client.name)

    def _want(self, row: VersionRow, missing: set[bytes]) -> None:
        """Ask for blobs; the same answer whether or not somebody else's copy is in the repository."""
        self._rows.disown(missing)
        self._rows.settle(row, VersionState.PENDING, reason=f"{len(missing)} blobs are missing")
        if row.reason != f"{len(missing)} blobs are missing":
            self._note(
                f"client {self._client.name}: version {row.number} waits for {len(missing)} blobs that it refers to "
                "but that the client did not deliver, or that the repository lost; the client sends them again"
            )

    def _find(self, row: VersionRow) -> StoredVersion | None:
        """The snapshot of this very version, if a pass that crashed has written it already."""
        tag = str(VersionTag.of(self._client.fingerprint, row.number, row.hash))
        return next((v for v in self._repo.versions if tag in v.snapshot.tags), None)

    def _base(self, number: int) -> StoredVersion | None:
        """The client's newest earlier version whose snapshot is present now."""
        client = self._client.fingerprint
        found = [(tag.number, v) for v in self._repo.versions for tag in tags_of(v, client) if tag.number < number]
        return max(found, key=lambda item: item[0])[1] if found else None

    def _sources(self) -> Sources:
        return Sources(self._rows.possesses, self._repo.has, self.read_tree)

    def read_tree(self, id_: BlobId) -> bytes:
        """A tree that is held for its version, or in the repository."""
        held = self._rows.held(id_)
        if held is not None:
            return self._verifier.decode(held)
        if not self._repo.has(BlobType.TREE, id_):
            raise NotFoundError(f"tree {id_.hex()[:10]} is not here")
        return self._repo.read(BlobType.TREE, id_)

    def _store_trees(self, reached: Reached) -> None:
        for id_ in reached.trees:
            held = self._rows.held(id_)
            if held is not None and not self._repo.has(BlobType.TREE, id_):
                self._repo.add(BlobType.TREE, id_, self._verifier.decode(held), held)

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
            tags=[*record.tags, str(VersionTag.of(self._client.fingerprint, row.number, row.hash))],
            program_version=record.program_version,
            summary=record.summary,
        )


def admit(rows: ClientRows, signed: SignedVersionRecord, client: Client, now: str, note: Callable[[str], None]) -> None:
    """Take a version record in: verify it against the client's chain, or reject it with the reason.

    Replays change nothing. A number that another record has taken is a fork: the first stays.
    """
    try:
        record = verify_version_record(signed, client=client.key, group=client.group)
    except CdrError as error:
        note(f"client {client.name}: a version record was refused: {error}")
        return
    known = rows.versions()
    if any(v.number == record.number and v.hash == signed.hash for v in known):
        return
    time = _sane_time(record, known, client, now, note)
    row = VersionRow(record.number, signed.body, signed.signature, signed.hash, VersionState.PENDING, time)
    reason = _objection(record, known)
    if reason:
        note(f"client {client.name}: version {record.number} rejected: {reason}")
        if sum(v.state is VersionState.REJECTED for v in known) < MAX_REJECTED:
            rows.settle(replace(row, record=b"", signature=b""), VersionState.REJECTED, reason=reason)
    else:
        rows.put_version(row)
        _reject_strays(rows, row, client)


def _reject_strays(rows: ClientRows, row: VersionRow, client: Client) -> None:
    """What came before its predecessor and does not follow it: its number is free for the next version."""
    for later in rows.versions():
        if later.number != row.number + 1 or later.state is not VersionState.PENDING:
            continue
        signed = SignedVersionRecord(later.record, later.signature)
        if verify_version_record(signed, client=client.key, group=client.group).previous != row.hash:
            rows.settle(later, VersionState.REJECTED, reason=_FORK)


def _objection(record: VersionRecord, known: list[VersionRow]) -> str:
    """Why the record cannot be a version of this client; empty when it can."""
    valid = {v.number: v for v in known if v.state is not VersionState.REJECTED}
    if any(tag.startswith(RESERVED_TAGS) for tag in record.tags):
        return f"tags that start with {RESERVED_TAGS!r} are not the client's to give"
    if record.number in valid:
        return "another version has this number: a fork of the client's history"
    if any(v.state is VersionState.COMMITTED and v.number > record.number for v in known):
        return "a later version is committed already"
    before = valid.get(record.number - 1)
    if before is not None and record.previous != before.hash:
        return _FORK
    if (record.number == 1) != (not record.previous):
        return "its number and its previous version contradict each other"
    return ""


def _sane_time(
    record: VersionRecord, known: list[VersionRow], client: Client, now: str, note: Callable[[str], None]
) -> str:
    """The record's time, or ``now`` when it lies in the future or not after the version before."""
    earlier = [v for v in known if v.state is not VersionState.REJECTED and v.number < record.number]
    newest = max((parse_time(v.time) for v in earlier), default=(-(1 << 62), 0))
    if newest < parse_time(record.time) <= parse_time(now):
        return record.time
    note(f"client {client.name}: version {record.number} claims the time {record.time}; the receipt time is used")
    return now
