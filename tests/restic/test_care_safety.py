"""What care must not take for lost, or for its own: each of these once cost something that was still there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from cdr_plugin.care import PruneOptions
from cdr_plugin.errors import FormatError, LockLostError, NotFoundError, RemoteError, UserError
from cdr_plugin.model.blobs import BlobType, Buffer, blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.model.versions import Snapshot
from cdr_restic.config import load_config, save_config
from cdr_restic.crypto import Sealer
from cdr_restic.files import SealedFiles
from cdr_restic.index import IndexedPack, encode_index
from cdr_restic.local import LocalStorage
from cdr_restic.packs import PackBuilder
from cdr_restic.storage import FileKind
from tests.restic.sound import assert_sound, unindexed
from tests.restic.world import TIME, Place, add_blob, blob_copies, make_place, node, some_blobs, write_version
from tests.support.crashing import kill_at

BLOBS = some_blobs(20, seed=3, largest=12000)
THOROUGH = PruneOptions(max_unused="0")


def storage_of(place: Place) -> LocalStorage:
    return LocalStorage(str(place.folder))


def save_pack(place: Place, type_: BlobType, blobs: list[bytes], *, listed: int) -> str:
    """A pack of these blobs, uncompressed, which one index file lists so often."""
    builder = PackBuilder(bytearray(), 1 << 20, Sealer(place.key), 0)
    for blob in blobs:
        builder.append(type_, blob_id(blob), blob, 0)
    data = bytes(builder.finish())
    name = sha256(data).hexdigest()
    storage_of(place).save(FileKind.DATA, name, data)
    if listed:
        files = SealedFiles(storage_of(place), place.key, 2)
        files.save(FileKind.INDEX, encode_index([IndexedPack(name, builder.entries)] * listed))
    return name


def folder_in_four_packs(place: Place) -> None:
    """A version of one folder; the tree of the folder, which lies in three damaged packs and in a whole one."""
    tree = encode_tree([node("file", size=1, content=[blob_id(BLOBS[0]).hex()])])
    root = encode_tree([node("folder", type="dir", mode=1 << 31 | 0o755, subtree=blob_id(tree).hex())])
    with place.repository().writing() as session:
        add_blob(session, BlobType.DATA, BLOBS[0])
        add_blob(session, BlobType.TREE, root)
        session.flush()
    names = [save_pack(place, BlobType.TREE, [tree], listed=1) for _ in range(4)]
    for name in names[:3]:
        path = place.folder / "data" / name[:2] / name
        path.chmod(0o600)
        path.write_bytes(bytes(8) + path.read_bytes()[8:])
    with place.repository().writing() as session:
        session.add_version(Snapshot(time=TIME, tree=blob_id(root).hex(), paths=["/folder"]))


# --- versions -----------------------------------------------------------------------------------


def test_a_tree_with_a_whole_copy_is_not_lost(place2: Place) -> None:
    folder_in_four_packs(place2)
    before = [version.id for version in place2.repository().versions()]
    report = place2.repository().care().repair_versions([], forget=True, dry_run=False)
    assert (report.done, report.lost) == ([], [])
    assert [version.id for version in place2.repository().versions()] == before


def test_a_tree_that_cannot_be_understood_is_not_lost(place2: Place) -> None:
    with place2.repository().writing() as session:
        tree = add_blob(session, BlobType.TREE, b'{"nodes":[{"name":"other","type":"file"}]}\n')
        id_ = session.add_version(Snapshot(time=TIME, tree=tree.hex(), paths=["/folder"]))
    with pytest.raises(FormatError, match="cannot be understood"):
        place2.repository().care().repair_versions([], forget=True, dry_run=False)
    assert [version.id for version in place2.repository().versions()] == [id_]


def test_a_version_that_is_listed_and_not_found_stops_a_prune(place2: Place, tmp_path: Path) -> None:
    with place2.repository().writing() as session:
        id_ = write_version(session, BLOBS)
        write_version(session, BLOBS[:3])
    path = place2.folder / "snapshots" / id_
    path.rename(tmp_path / id_)
    path.symlink_to(tmp_path / "elsewhere")
    packs = sorted(storage_of(place2).list(FileKind.DATA))
    with pytest.raises(NotFoundError):
        place2.repository().care().prune(THOROUGH)
    assert sorted(storage_of(place2).list(FileKind.DATA)) == packs


def test_options_that_prune_refuses_remove_no_version(place2: Place) -> None:
    with place2.repository().writing() as session:
        id_ = write_version(session, BLOBS[:3])
    with pytest.raises(UserError):
        place2.repository().care().forget([id_], PruneOptions(max_unused="much"))
    assert [version.id for version in place2.repository().versions()] == [id_]


# --- index --------------------------------------------------------------------------------------


class _Migrating(LocalStorage):
    """When locks are first looked at, whoever held the repository does something to it."""

    act: Callable[[], object] | None = None

    def list(self, kind: FileKind) -> Iterator[str]:
        act, self.act = self.act, self.act if kind is not FileKind.LOCKS else None
        if kind is FileKind.LOCKS and act is not None:
            act()
        return super().list(kind)


def test_a_repository_that_was_migrated_while_we_waited_for_the_lock_is_not_damaged(tmp_path: Path) -> None:
    place = make_place(tmp_path / "place", version=1)

    def migrate_and_back_up() -> None:
        config = load_config(storage_of(place), place.key)
        save_config(storage_of(place), place.key, replace(config, version=2))
        with replace(place, state=tmp_path / "other").repository().writing() as session:
            write_version(session, BLOBS)

    storage = _Migrating(str(place.folder))
    storage.act = migrate_and_back_up
    report = place.repository(storage).care().repair_index()
    assert (report.done, report.lost) == ([], [])
    assert len(assert_sound(place)) == 1


def test_a_pack_that_one_index_file_lists_twice_is_repaired(place2: Place) -> None:
    with place2.repository().writing() as session:
        write_version(session, BLOBS[:2])
        save_pack(place2, BlobType.DATA, BLOBS[5:8], listed=2)
    with place2.repository().writing() as session:
        write_version(session, BLOBS[5:8])
    report = place2.repository().care().repair_index()
    assert report.done and not report.lost
    place2.repository().care().prune(THOROUGH)
    place2.check()


class _Recording(LocalStorage):
    """Notes in which order files go."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.done: list[str] = []

    def remove(self, kind: FileKind, name: str) -> None:
        self.done.append(f"remove {kind}")
        super().remove(kind, name)

    def sync_removals(self, kind: FileKind) -> None:
        self.done.append(f"sync {kind}")
        super().sync_removals(kind)


def test_no_index_file_or_version_comes_back_when_the_power_fails_after_packs_went(place2: Place) -> None:
    with place2.repository().writing() as session:
        old = write_version(session, BLOBS)
        write_version(session, BLOBS[::3])
    storage = _Recording(str(place2.folder))
    place2.repository(storage).care().forget([old], THOROUGH)
    done = [what for what in storage.done if what != "remove locks"]
    first_pack = done.index("remove data")
    assert done[:2] == ["remove snapshots", "sync snapshots"]
    assert done[first_pack - 1] == "sync index"
    assert "remove index" not in done[first_pack:]


# --- after a crash ------------------------------------------------------------------------------


@pytest.fixture
def broken_off(tmp_path: Path) -> tuple[Place, str]:
    """A repository in which a prune was killed after its first copy, and that pack."""
    place = make_place(tmp_path / "start")
    with place.repository().writing() as session:
        old = write_version(session, BLOBS)
        write_version(session, BLOBS[::3])
        session.remove_version(old)
    for at in range(8, 100):
        folder = tmp_path / f"kill{at}"
        folder.mkdir()
        copy = place.copy(folder)
        assert kill_at(at, lambda copy=copy: copy.repository().care().prune(THOROUGH)).killed  # type: ignore[misc]
        if unindexed(copy):
            return copy, unindexed(copy)[0]
    raise AssertionError("no kill left a pack that no index lists")


def test_a_copy_outlives_the_pack_that_it_was_made_of(broken_off: tuple[Place, str]) -> None:
    place, copied = broken_off
    for name in list(storage_of(place).list(FileKind.DATA)):
        if name != copied:
            os.unlink(place.folder / "data" / name[:2] / name)
    with place.repository().writing():
        pass
    assert list(storage_of(place).list(FileKind.DATA)) == [copied]
    assert unindexed(place) == []


class _Unlocking(LocalStorage):
    """Somebody removes all locks while we read the index."""

    def load_part(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        if kind is FileKind.INDEX:
            for lock in list(self.list(FileKind.LOCKS)):
                self.remove(FileKind.LOCKS, lock)
        return super().load_part(kind, name, offset, length)

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        assert kind is not FileKind.INDEX
        super().save(kind, name, data)


@pytest.mark.parametrize("is_copy", [True, False])
def test_without_our_lock_nothing_is_recovered(broken_off: tuple[Place, str], is_copy: bool) -> None:
    place, copied = broken_off
    if not is_copy:
        for name in list(storage_of(place).list(FileKind.DATA)):
            if name != copied:
                os.unlink(place.folder / "data" / name[:2] / name)
    with pytest.raises(LockLostError), place.repository(_Unlocking(str(place.folder))).writing():
        pass
    assert unindexed(place) == [copied]


@pytest.mark.parametrize("kind", [FileKind.SNAPSHOTS, FileKind.INDEX])
def test_a_repository_without_one_of_its_folders_is_not_taken_for_an_empty_one(place2: Place, kind: FileKind) -> None:
    with place2.repository().writing() as session:
        write_version(session, some_blobs(5))
    before = blob_copies(place2)
    shutil.rmtree(place2.folder / kind)
    with pytest.raises(RemoteError, match=f"no folder '{kind}'"):
        place2.repository().care().prune(PruneOptions(max_unused="0"))
    assert blob_copies(place2) == before
