"""Repairs: what is there is found again, what is lost is named, and restic finds the rest clean."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from cdr_plugin.care import CheckOptions, RepositoryCare
from cdr_plugin.errors import FormatError, RemoteError, UserError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.restore import RestoreOptions, restore
from cdr_restic.files import SealedFiles
from cdr_restic.index import parse_index
from cdr_restic.local import LocalStorage
from cdr_restic.recovery import verify_pack
from cdr_restic.storage import FileKind, Storage
from tests.restic.world import FaultyStorage, Notes, Place, blob_copies, fail
from tests.support.changing import change, many_files
from tests.support.compare import tree_facts
from tests.support.direct import backup_into

Facts = dict[bytes, dict[str, object]]


class World:
    """A repository with three versions of a changing folder, and what they must restore."""

    def __init__(self, place: Place, tmp_path: Path) -> None:
        self.place = place
        self.folder = tmp_path / "files"
        self.folder.mkdir()
        self.scratch = tmp_path / "scratch"
        chance = random.Random(3)
        many_files(self.folder, chance, files=25)
        self.versions: dict[str, Facts] = {}
        for day in range(1, 4):
            self.versions[self.backup(day)] = tree_facts(self.folder)
            if day < 3:
                change(self.folder, chance)

    def backup(self, day: int) -> str:
        return backup_into(self.place.repository(), self.folder, time=f"2024-05-{day:02}T00:00:00Z")

    def care(self, storage: Storage | None = None) -> RepositoryCare:
        return self.place.repository(storage).care()

    def names(self, kind: FileKind) -> list[str]:
        return sorted(LocalStorage(str(self.place.folder)).list(kind))

    def path(self, kind: FileKind, name: str) -> Path:
        return self.place.folder / kind / (name[:2] if kind is FileKind.DATA else "") / name

    def packs(self, type_name: str) -> list[str]:
        """Packs that hold blobs of that type, the largest first."""
        storage = LocalStorage(str(self.place.folder))
        found = []
        for name in self.names(FileKind.DATA):
            entries = verify_pack(storage, self.place.key, name)
            if entries[0].type.name == type_name:
                found.append((self.path(FileKind.DATA, name).stat().st_size, name))
        return [name for _, name in sorted(found, reverse=True)]

    def listed(self) -> set[tuple[object, ...]]:
        """What the index files list: pack and entry."""
        files = SealedFiles(LocalStorage(str(self.place.folder)), self.place.key, 2)
        return {
            (pack.name, *entry)
            for name in self.names(FileKind.INDEX)
            for pack in parse_index(files.load(FileKind.INDEX, name), 2)
            for entry in pack.entries
        }

    def restored(self, id_: str) -> tuple[Facts, int]:
        """What a version restores now, and how many items failed."""
        repository = self.place.repository()
        (version,) = [found for found in repository.versions() if found.id == id_]
        target = self.scratch / f"{id_[:8]}-{random.getrandbits(32):x}"
        with repository.reading() as reader:
            tree = BlobId(bytes.fromhex(version.snapshot.tree))
            errors = restore(reader, tree, RestoreOptions(target=target), Notes()).errors
        return tree_facts(target / str(self.folder).lstrip("/")), errors

    def assert_whole(self) -> None:
        for id_, facts in self.versions.items():
            assert self.restored(id_) == (facts, 0)


@pytest.fixture
def world(place2: Place, tmp_path: Path) -> World:
    return World(place2, tmp_path)


def flip(path: Path, at: int) -> None:
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# --- index --------------------------------------------------------------------------------------


def test_nothing_to_repair_changes_nothing(world: World) -> None:
    before = world.names(FileKind.INDEX)
    for everything in (False, True):
        report = world.care().repair_index(read_all_packs=everything)
        assert (report.done, report.lost, world.names(FileKind.INDEX)) == ([], [], before)


@pytest.mark.parametrize("harm", ["all gone", "one gone", "one damaged", "one doubled"])
def test_a_lost_index_is_rebuilt_from_the_packs(world: World, harm: str) -> None:
    wanted = world.listed()
    paths = [world.path(FileKind.INDEX, name) for name in world.names(FileKind.INDEX)]
    if harm == "one damaged":
        flip(paths[0], 30)
    elif harm == "one doubled":
        files = SealedFiles(LocalStorage(str(world.place.folder)), world.place.key, 2)
        files.save(FileKind.INDEX, files.load(FileKind.INDEX, paths[0].name))
    else:
        for path in paths if harm == "all gone" else paths[:1]:
            path.unlink()
    assert world.care().repair_index().done
    assert world.listed() == wanted
    world.place.check()
    world.assert_whole()


def test_an_index_that_lies_is_corrected_by_reading_all_packs(world: World) -> None:
    wanted = world.listed()
    files = SealedFiles(LocalStorage(str(world.place.folder)), world.place.key, 2)
    (name, *_) = world.names(FileKind.INDEX)
    text = files.load(FileKind.INDEX, name)
    id_ = parse_index(text, 2)[0].entries[0].id.hex().encode()
    files.save(FileKind.INDEX, text.replace(id_, b"ab" * 32))
    world.path(FileKind.INDEX, name).unlink()
    world.care().repair_index(read_all_packs=True)
    assert world.listed() == wanted
    world.place.check()


def test_restic_rebuilds_the_same_index(world: World, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    other = world.place.copy(tmp_path / "copy")
    lost = world.packs("DATA")[1]
    for place in (world.place, other):
        (place.folder / "data" / lost[:2] / lost).unlink()
        next((place.folder / "index").iterdir()).unlink()
    report = world.care().repair_index()
    assert len(report.lost) <= 1
    ours = world.listed()
    other.restic("rebuild-index")
    world.place = other
    assert world.listed() == ours


# --- packs and versions -------------------------------------------------------------------------


def _flip_a_blob(path: Path) -> None:
    flip(path, 40)


def _cut_in_half(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _break_the_header(path: Path) -> None:
    flip(path, path.stat().st_size - 20)


@pytest.mark.parametrize("harm", [_flip_a_blob, _cut_in_half, _break_the_header])
@pytest.mark.parametrize("kind", ["DATA", "TREE"])
def test_what_is_left_of_a_damaged_pack_is_saved_and_versions_are_mended(
    world: World, kind: str, harm: Callable[[Path], None]
) -> None:
    name = world.packs(kind)[0]
    held = len(verify_pack(LocalStorage(str(world.place.folder)), world.place.key, name))
    harm(world.path(FileKind.DATA, name))
    assert name in world.care().check(CheckOptions(read_data=True)).broken_packs
    report = world.care().repair_packs([name[:12]])
    assert name not in world.names(FileKind.DATA)
    assert len(report.lost) < held or held == 1
    mended = world.care().repair_versions([], forget=True, dry_run=False)
    assert bool(mended.lost) == bool(report.lost)
    found = world.care().check(CheckOptions(read_data=True))
    assert (found.errors, found.broken_packs) == ([], [])
    world.place.restic("check", "--read-data")
    for version in world.place.repository().versions():
        facts, errors = world.restored(version.id)
        assert errors == 0
        if "repaired" in version.snapshot.tags:
            whole = world.versions[version.snapshot.original]
            assert facts.keys() <= whole.keys()
            kept = [path for path in facts if facts[path].get("content") == whole[path].get("content")]
            assert len(kept) > len(facts) // 2
        else:
            assert facts == world.versions[version.id]


def test_a_new_backup_brings_back_what_the_source_still_has(world: World) -> None:
    lost = world.packs("DATA")[0]
    world.path(FileKind.DATA, lost).unlink()
    report = world.care().repair_index()
    assert [line.split()[1] for line in report.lost] == [lost]
    newest = world.backup(9)
    world.place.restic("restore", newest, "--target", str(world.scratch))
    assert tree_facts(world.scratch / str(world.folder).lstrip("/")) == tree_facts(world.folder)


def test_a_dry_run_writes_nothing(world: World) -> None:
    world.path(FileKind.DATA, world.packs("DATA")[0]).unlink()
    world.care().repair_index()
    before = {kind: world.names(kind) for kind in FileKind if kind is not FileKind.CONFIG}
    report = world.care().repair_versions([], forget=True, dry_run=True)
    assert report.done and report.lost
    assert {kind: world.names(kind) for kind in before} == before


def test_without_forget_the_old_version_stays_beside_the_new_one(world: World) -> None:
    world.path(FileKind.DATA, world.packs("TREE")[0]).unlink()
    world.care().repair_index()
    before = set(world.names(FileKind.SNAPSHOTS))
    world.care().repair_versions([], forget=False, dry_run=False)
    assert before <= set(world.names(FileKind.SNAPSHOTS))


def test_a_pack_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(UserError, match="no such pack"):
        world.care().repair_packs(["00" * 32])


def test_a_repair_that_fails_anywhere_loses_nothing_that_was_left(world: World, tmp_path: Path) -> None:
    """Every storage operation fails once; what verified before still does, and the next run repairs."""
    name = world.packs("DATA")[0]
    flip(world.path(FileKind.DATA, name), 40)
    lost_index = world.names(FileKind.INDEX)[0]
    world.path(FileKind.INDEX, lost_index).unlink()
    original = world.place
    number = stride = 0
    readable: set[tuple[str, str]] | None = None
    while True:
        number += 1 + stride
        folder = tmp_path / f"run{number}"
        folder.mkdir()
        world.place = place = original.copy(folder)
        storage = FaultyStorage(place.folder, number, ("before", "after", "torn")[number % 3], fail)
        try:
            world.care(storage).repair_index()
            world.care(storage).repair_packs([name])
        except (RemoteError, FormatError):
            pass
        if not storage.fired:
            break
        world.care().repair_index()
        if name in world.names(FileKind.DATA):
            world.care().repair_packs([name])
        copies = set(blob_copies(place))
        readable = readable or copies
        assert copies == readable
        assert not world.names(FileKind.LOCKS)
    assert number > 20
    found = world.care().repair_versions([], forget=True, dry_run=False)
    assert len(found.lost) >= 1
    world.place.check()
