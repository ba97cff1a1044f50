"""Our own verification of a whole repository, as strict as ``restic check --read-data`` and a hundred times quicker."""

from __future__ import annotations

from contextlib import closing

from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import content_ids, decode_tree, subtree_ids
from cdr_restic.care.copies import load_rows
from cdr_restic.files import SealedFiles
from cdr_restic.local import LocalStorage
from cdr_restic.reading import ResticReader
from cdr_restic.recovery import verify_pack
from cdr_restic.storage import FileKind
from tests.restic.world import Place


def assert_sound(place: Place) -> dict[str, set[bytes]]:
    """Index and packs agree, every byte of every indexed pack verifies, and all that versions reach is there.

    The data blobs of each version, by ID of its snapshot.
    """
    repository = place.repository()
    files = repository.files()
    index = load_rows(files).index
    stored = set(files.storage.list(FileKind.DATA))
    for run in index.packs():
        assert run.name in stored, "an index file lists a pack that is not there"
        assert set(index.entries(run.number)) == set(verify_pack(files.storage, place.key, run.name))
    with closing(ResticReader(files.storage, place.key, index)) as reader:
        return {version.id: _reached(reader, version.snapshot.tree) for version in repository.versions()}


def _reached(reader: ResticReader, root: str) -> set[bytes]:
    """The data blobs below a tree, each of them read."""
    trees, content, seen = [bytes.fromhex(root)], set[bytes](), set[bytes]()
    while trees:
        tree = trees.pop()
        if tree not in seen:
            seen.add(tree)
            nodes = decode_tree(reader.read(BlobType.TREE, BlobId(tree)))
            trees += subtree_ids(nodes)
            content.update(content_ids(nodes))
    for _ in reader.read_many(BlobType.DATA, [BlobId(id_) for id_ in content]):
        pass
    return content


def unindexed(place: Place) -> list[str]:
    """Packs that no index file lists."""
    files = SealedFiles(LocalStorage(str(place.folder)), place.key, 2)
    index = load_rows(files).index
    return [name for name in files.storage.list(FileKind.DATA) if not index.has_pack(name)]
