"""Rebuilding what is known of a client from the repository, after the state was lost.

The repository names the client's versions in tags and what it possesses in trees and pins, that of what
it adopted among them. What was
held for an unfinished version is gone; the client is asked for it when its next version refers to it.
"""

from __future__ import annotations

from cdr_plugin.contracts import RepositoryPass
from cdr_plugin.errors import IntegrityError, NotFoundError
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, content_ids, decode_tree, subtree_ids
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.pins import adoption_path, pin_path
from cdr_plugin.top.snapshots import Snapshots
from cdr_plugin.top.state import ClientRows, VersionRow, VersionState

_TREE = bytes((BlobType.TREE,))
_DATA = bytes((BlobType.DATA,))


def rebuild(
    repo: RepositoryPass, snapshots: Snapshots, rows: ClientRows, client: Client, reporter: Reporter
) -> int:
    """Fill empty ``rows`` from snapshots and pins of ``client``; how many versions were found."""
    seen: set[BlobId] = set()
    versions = snapshots.of_client(client.fingerprint)
    for tag, version in sorted(versions, key=lambda pair: parse_time(pair[1].snapshot.time)):
        rows.reach(_walk(repo, BlobId(bytes.fromhex(version.snapshot.tree)), seen, reporter))
        time, committed = version.snapshot.time, VersionState.COMMITTED
        row = VersionRow(tag.number, b"", b"", tag.record_hash, b"", committed, time)
        rows.settle(row, committed, snapshot=version.id)
    for version in snapshots.pins(adoption_path(client.fingerprint)):
        rows.reach(_walk(repo, BlobId(bytes.fromhex(version.snapshot.tree)), seen, reporter))
    for version in snapshots.pins(pin_path(client.fingerprint)):
        pinned = _walk(repo, BlobId(bytes.fromhex(version.snapshot.tree)), set(), reporter)
        for key in pinned - _keys_reached(rows, pinned):
            if key[0] == BlobType.DATA:
                rows.possess(key)
    if versions:
        reporter.note(f"client {client.name}: state rebuilt from {len(versions)} versions in the repository")
    return len(versions)


def _keys_reached(rows: ClientRows, keys: set[bytes]) -> set[bytes]:
    return {key for key in keys if rows.possesses(key)}


def _walk(repo: RepositoryPass, root: BlobId, seen: set[BlobId], reporter: Reporter) -> set[bytes]:
    """Keys of everything that can be reached from ``root`` and was not ``seen`` before."""
    keys: set[bytes] = set()
    stack = [root]
    while stack:
        id_ = stack.pop()
        if id_ in seen:
            continue
        seen.add(id_)
        keys.add(_TREE + id_)
        nodes = _nodes(repo, id_, reporter)
        keys.update(_DATA + blob for blob in content_ids(nodes))
        stack.extend(BlobId(below) for below in subtree_ids(nodes))
    return keys


def _nodes(repo: RepositoryPass, id_: BlobId, reporter: Reporter) -> list[Node]:
    try:
        return decode_tree(repo.read(BlobType.TREE, id_))
    except (NotFoundError, IntegrityError) as error:
        reporter.error(f"tree {id_.hex()[:10]}", "receive", error)
        return []
