"""``cdr adopt CLIENT`` at the top tier: a client possesses what a version in the repository reaches.

The order of durable actions is that of docs/design/adoption.md. Each can be repeated, so a run that was
killed is completed by the next.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC

from cdr_plugin.contracts import RepositoryPass, StoredVersion, Transport
from cdr_plugin.errors import IntegrityError, NotEnrolledError, NotFoundError, UserError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import time_formatter
from cdr_plugin.model.trees import Node, decode_tree
from cdr_plugin.parcel.sealed import Author
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.choosing import Chooser, Wanted
from cdr_plugin.top.facts import iter_facts
from cdr_plugin.top.pins import pin_adopted
from cdr_plugin.top.publish import Publisher, adopted_fact
from cdr_plugin.top.rebuild import rebuild
from cdr_plugin.top.receive import receive
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.state import ClientRows, VersionRow, VersionState
from cdr_plugin.top.tier import TopTier

_TREE = bytes((BlobType.TREE,))
_DATA = bytes((BlobType.DATA,))
_SERIES_BYTES = 16

GRANT_BLOBS = 50_000
"""Rows of one transaction, and what a crash costs at most."""


@dataclass(slots=True)
class Adopted:
    """What was done. ``blobs``: all that the client possesses and the repository holds now; ``not_granted``: what
    the version names but the repository lacks; ``number``: of the client's newest version, 0 before the first."""

    client: Client
    version: StoredVersion
    blobs: int = 0
    granted: int = 0
    not_granted: int = 0
    baseline_bytes: int = 0
    number: int = 0


def adopt(top: TopTier, name: str, wanted: Wanted, reporter: Reporter) -> Adopted:
    """Grant the client called ``name`` what the wanted version reaches, and publish its baseline.

    Takes in what lies in the inboxes first. NotEnrolledError when there is no such client, UserError when the
    version is not for it to have; then nothing is changed. LockedError.
    """
    receive(top, reporter)
    clients = top.register.clients(top.group)
    client = _find(top, clients, name)
    chooser = Chooser(client, clients, wanted)
    with (
        exclusive(top.state_folder / "receive.lock", f"receiving of {top.name}"),
        ExitStack() as stack,
        closing(top.open_repository()) as repository,
        repository.writing() as repo,
    ):
        version = chooser.choose(repo.versions)
        inboxes = [stack.enter_context(top.plugins.transport(url)) for url in top.inboxes]
        return _Adoption(top, repo, client, version, reporter).run(inboxes)


def _find(top: TopTier, clients: list[Client], name: str) -> Client:
    client = next((client for client in clients if client.name == name), None)
    if client is None:
        raise NotEnrolledError(
            f"no client {name[:80]!r} in group {top.group}; run 'cdr enroll' and 'cdr send' there first; "
            "'cdr clients' lists those there are"
        )
    if client.state is not ClientState.APPROVED:
        raise UserError(f"client {name} is revoked; 'cdr clients approve {name}' comes first")
    return client


class _Adoption:
    """One run, under the lock of the repository."""

    def __init__(
        self, top: TopTier, repo: RepositoryPass, client: Client, version: StoredVersion, reporter: Reporter
    ) -> None:
        self._top = top
        self._repo = repo
        self._snapshots = Snapshots(repo)
        self._client = client
        self._version = version
        self._reporter = reporter
        self._rows: ClientRows = top.state.client(client.fingerprint)
        self._root = BlobId(bytes.fromhex(version.snapshot.tree))
        self._result = Adopted(client, version)

    def run(self, inboxes: list[Transport]) -> Adopted:
        self._remember_repository()
        pin_adopted(self._snapshots, self._client.fingerprint, self._version.snapshot.tree)
        self._grant()
        self._publish(inboxes)
        return self._result

    def _remember_repository(self) -> None:
        """A state that was lost is rebuilt first: once there are rows, no pass would do it."""
        if self._rows.is_new():
            rebuild(self._repo, self._snapshots, self._rows, self._client, self._reporter)
            self._repo.flush()
            self._rows.checkpoint()

    # --- granting ---

    def _grant(self) -> None:
        batch: set[bytes] = set()
        for nodes, tree in self._trees():
            batch.add(_TREE + tree)
            for id_ in _contents(nodes):
                if self._repo.has(BlobType.DATA, id_):
                    batch.add(_DATA + id_)
                else:
                    self._result.not_granted += 1
            if len(batch) >= GRANT_BLOBS:
                self._keep(batch)
        self._keep(batch)
        if self._result.not_granted:
            self._reporter.note(
                f"version {self._version.id[:8]}: {self._result.not_granted} blobs that it names cannot be had; "
                "they are not granted, the client sends what it has of them"
            )

    def _keep(self, batch: set[bytes]) -> None:
        """Durable when this returns; the lock is still ours."""
        self._repo.flush()
        self._rows.grant(batch)
        self._rows.checkpoint()
        self._result.granted += len(batch)
        self._reporter.progress(blobs_granted=self._result.granted)
        batch.clear()

    def _trees(self) -> Iterator[tuple[list[Node], BlobId]]:
        """Every tree below the root that can be read, once."""
        seen: set[BlobId] = set()
        stack = [self._root]
        while stack:
            id_ = stack.pop()
            if id_ in seen:
                continue
            seen.add(id_)
            try:
                nodes = decode_tree(self._read(id_))
                below = [BlobId(bytes.fromhex(node.subtree)) for node in nodes if node.subtree]
                _contents(nodes)
            except (NotFoundError, IntegrityError, ValueError) as error:
                self._reporter.error(f"tree {id_.hex()[:10]}", "adopt", str(error))
                self._result.not_granted += 1
                continue
            stack += below
            yield nodes, id_

    def _read(self, id_: BlobId) -> bytes:
        if len(id_) != len(self._root) or not self._repo.has(BlobType.TREE, id_):
            raise NotFoundError(f"tree {id_.hex()[:10]} is not in the repository")
        return self._repo.read(BlobType.TREE, id_)

    # --- publishing ---

    def _publish(self, inboxes: list[Transport]) -> None:
        now_s = time.time()
        author = Author(
            self._top.identity.signing, self._client.key, self._client.sealing, self._top.group, int(now_s)
        )
        serial = self._top.state.next_serial(f"baseline:{self._client.fingerprint.hex()}")
        newest = self._newest()
        publisher = Publisher(inboxes, author, secrets.token_bytes(_SERIES_BYTES), serial)
        self._result.blobs = publisher.add_blobs(self._possessed())
        publisher.add_facts(iter_facts(self._root, self._read))
        self._top.state.put({adopted_fact(self._client): time_formatter(UTC)(int(now_s), int(now_s % 1 * 1e9))})
        publisher.finish(
            snapshot=self._version.id,
            time=self._version.snapshot.time,
            number=newest.number if newest else 0,
            record=newest.hash if newest else b"",
            tree=self._tree_of(newest),
        )
        self._result.baseline_bytes = publisher.bytes
        self._result.number = newest.number if newest else 0

    def _possessed(self) -> Iterator[bytes]:
        """What the client need not send: possessed, and in the repository or held for a version."""
        for key in self._rows.possessed():
            type_, id_ = BlobType(key[0]), BlobId(key[1:])
            if self._repo.has(type_, id_) or (type_ is BlobType.TREE and self._rows.held(id_) is not None):
                yield key

    def _newest(self) -> VersionRow | None:
        """The version that the client's next one follows: never one whose own predecessors are not here."""
        fitting: dict[bytes, VersionRow] = {}
        for row in self._rows.versions():
            stray = row.state is VersionState.PENDING and row.previous and row.previous not in fitting
            if row.state is not VersionState.REJECTED and not stray:
                fitting[row.hash] = row
        return max(fitting.values(), key=lambda row: row.rank, default=None)

    def _tree_of(self, newest: VersionRow | None) -> bytes:
        """Its root tree, as far as a snapshot says; else empty."""
        if newest is not None:
            for tag, version in self._snapshots.of_client(self._client.fingerprint):
                if tag.record_hash == newest.hash:
                    return bytes.fromhex(version.snapshot.tree)
        return b""


def _contents(nodes: list[Node]) -> list[BlobId]:
    """The content IDs of all files; ValueError for what is no ID."""
    found = [BlobId(bytes.fromhex(id_)) for node in nodes if node.content for id_ in node.content]
    if any(len(id_) != 32 for id_ in found):
        raise ValueError("a file names what is no blob")
    return found
