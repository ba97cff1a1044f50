"""Clients that are registered, have versions, and send nothing: what a pass must not pay for."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from cdr_plugin.database import Database
from cdr_plugin.identity.keys import SealingKey, SigningKey
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.model.blobs import BlobType, blob_id
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.top.state import VersionRow, VersionState
from cdr_plugin.top.tier import TopTier
from cdr_plugin.top.version_tags import VersionTag

_TREE = b'{"nodes":[]}\n'


def add_crowd(top: TopTier, clients: int, versions: int = 2, via: bytes = b"") -> list[Client]:
    """Each with so many committed versions in the state and in the repository."""
    found = []
    with closing(top.open_repository()) as repository, repository.writing() as repo:
        tree = blob_id(_TREE)
        repo.add(BlobType.TREE, tree, _TREE)
        for _ in range(clients):
            name = f"crowd-{secrets.token_hex(4)}"
            key, sealing = SigningKey.generate().public, SealingKey.generate().public
            client = Client(top.group, name, "", key, sealing, {}, ClientState.APPROVED, int(time.time()), via=via)
            found.append(top.register.introduce(client))
            rows, previous = top.state.client(client.fingerprint), b""
            rows.reach([bytes((BlobType.TREE,)) + tree])
            for number in range(1, versions + 1):
                hash_, when = secrets.token_bytes(32), f"2020-01-01T00:00:{number:02}Z"
                tags = [str(VersionTag.of(client.fingerprint, number, hash_))]
                snapshot = repo.add_version(
                    Snapshot(time=when, tree=tree.hex(), paths=["/crowd"], hostname=name, tags=tags)
                )
                row = VersionRow(number, b"", b"signed", hash_, previous, VersionState.COMMITTED, when)
                rows.settle(row, VersionState.COMMITTED, snapshot=snapshot)
                previous = hash_
            rows.checkpoint()
    return found


@contextmanager
def statements(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The SQL that state databases that are opened meanwhile are asked, with its values."""
    found: list[str] = []
    prepare = Database._prepare

    def traced(self: Database, schema: str, version: int, indexes: str) -> None:
        prepare(self, schema, version, indexes)
        self.connection.set_trace_callback(found.append)

    with monkeypatch.context() as patch:
        patch.setattr(Database, "_prepare", traced)
        yield found
