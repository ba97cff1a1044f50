"""Pins: one ordinary snapshot per client that keeps unreached data blobs from ``restic prune``.

The snapshot's tree holds folders of synthetic files whose content lists name the blobs. Full folders
are the same trees in the next pin, so a growing pin costs what was added.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cdr_plugin.contracts import RepositoryPass, StoredVersion
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id
from cdr_plugin.model.trees import GO_DIR, Node, encode_tree
from cdr_plugin.model.versions import Snapshot

if TYPE_CHECKING:
    from cdr_plugin.top.snapshots import Snapshots

PIN_HOST = "cdr-pin"
PIN_TAG = "cdr-pin"
_FOLDER_BLOBS = 4096  # 280 KB of tree; a pin of 10 million blobs has a root of 2,500 entries
_EPOCH = "1970-01-01T00:00:00Z"


def pin_path(client: bytes) -> str:
    return f"/{client.hex()}"


def is_pin(snapshot: Snapshot) -> bool:
    """By its tag too: a client may have any host name, but no tag of ours."""
    return snapshot.hostname == PIN_HOST and snapshot.tags == [PIN_TAG]


def renew_pin(repo: RepositoryPass, snapshots: Snapshots, client: bytes, blobs: Sequence[BlobId]) -> None:
    """Make the client's pin name exactly ``blobs`` (sorted); the new one is written before old ones go.

    A pin is dated 1970, so that ``latest`` always means a backup.
    """
    old = snapshots.pins(pin_path(client))
    if blobs:
        tree = _write_tree(repo, blobs)
        if len(old) == 1 and old[0].snapshot.tree == tree.hex():
            return
        snapshots.add(
            Snapshot(time=_EPOCH, tree=tree.hex(), paths=[pin_path(client)], hostname=PIN_HOST, tags=[PIN_TAG])
        )
    for version in old:
        snapshots.remove(version)


def adoption_path(client: bytes) -> str:
    return f"{pin_path(client)}/adopted"


def adoption_pins(versions: Iterable[StoredVersion], client: bytes) -> list[StoredVersion]:
    """What keeps the version that a client adopted, until its first own version after it is committed."""
    return [v for v in versions if is_pin(v.snapshot) and v.snapshot.paths == [adoption_path(client)]]


def pin_adopted(snapshots: Snapshots, client: bytes, tree: str) -> None:
    """Keep everything below ``tree`` (hex), which the repository holds, in place of what was adopted before."""
    old = snapshots.pins(adoption_path(client))
    if not any(version.snapshot.tree == tree for version in old):
        paths = [adoption_path(client)]
        snapshots.add(Snapshot(time=_EPOCH, tree=tree, paths=paths, hostname=PIN_HOST, tags=[PIN_TAG]))
    for version in old:
        if version.snapshot.tree != tree:
            snapshots.remove(version)


def _write_tree(repo: RepositoryPass, blobs: Sequence[BlobId]) -> BlobId:
    folders = []
    for number, at in enumerate(range(0, len(blobs), _FOLDER_BLOBS)):
        content = [id_.hex() for id_ in blobs[at : at + _FOLDER_BLOBS]]
        files = [_node("blobs", "file", mode=0o400, content=content)]
        subtree = _add_tree(repo, files).hex()
        folders.append(_node(f"{number:08d}", "dir", mode=GO_DIR | 0o500, content=None, subtree=subtree))
    return _add_tree(repo, folders)


def _node(name: str, type_: str, *, mode: int, content: list[str] | None, subtree: str = "") -> Node:
    return Node(
        name=name, type=type_, mode=mode, mtime=_EPOCH, atime=_EPOCH, ctime=_EPOCH, uid=0, gid=0,
        content=content, subtree=subtree,
    )  # fmt: skip


def _add_tree(repo: RepositoryPass, nodes: Sequence[Node]) -> BlobId:
    data = encode_tree(nodes)
    id_ = blob_id(data)
    repo.add(BlobType.TREE, id_, data)
    return id_
