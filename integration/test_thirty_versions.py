"""One repository of thirty-two versions of a changing tree, written by restic and CDR in turn: whatever either
program does with it, the other agrees, file by file and blob by blob."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cdr_restic.files import SealedFiles
from cdr_restic.index import parse_index
from cdr_restic.local import LocalStorage
from cdr_restic.storage import FileKind
from tests.restic.world import Place, blob_copies, made_by_restic, make_place
from tests.support.changing import change, many_files
from tests.support.direct import backup_into

from .command import Shell

VERSIONS = 32
POLICY = ("--keep-last", "3", "--keep-daily", "5", "--keep-weekly", "4", "--keep-tag", "t7")


@dataclass
class World:
    """A repository, and both programs in its folder."""

    place: Place
    shell: Shell

    def copied(self, folder: Path) -> World:
        folder.mkdir()
        return in_shell(self.place.copy(folder))

    def restic(self, *arguments: str, code: int = 0) -> str:
        return self.shell.restic(*arguments, code=code).out

    def cdr(self, *arguments: str, code: int = 0) -> str:
        return self.shell.cdr(*arguments, code=code).out

    def both(self, *arguments: str) -> tuple[list[Any], list[Any]]:
        """The JSON lines that restic and that CDR prints."""
        theirs, ours = self.restic(*arguments, "--json"), self.cdr(*arguments, "--json")
        return [json.loads(line) for line in theirs.splitlines()], [json.loads(line) for line in ours.splitlines()]

    def snapshots(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json"))
        return found

    def blobs(self) -> list[tuple[str, str]]:
        """Every stored copy of every blob."""
        return sorted(blob_copies(self.place))

    def listed(self) -> set[tuple[object, ...]]:
        """What the index files list: pack and entry."""
        storage = LocalStorage(str(self.place.folder))
        files = SealedFiles(storage, self.place.key, 2)
        return {
            (pack.name, *entry)
            for name in storage.list(FileKind.INDEX)
            for pack in parse_index(files.load(FileKind.INDEX, name), 2)
            for entry in pack.entries
        }


def in_shell(place: Place) -> World:
    variables = {"RESTIC_REPOSITORY": str(place.folder), "RESTIC_PASSWORD": place.password, "TZ": "UTC"}
    return World(place, Shell(place.folder.parent, variables))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("thirty")
    place = made_by_restic(folder / "r")
    place.state.mkdir(exist_ok=True)
    world = in_shell(place)
    source, chance = folder / "source", random.Random(30)
    many_files(source, chance, files=60)
    for number in range(VERSIONS):
        day, tag = f"2024-04-{number // 2 + 1:02} {8 + number % 2 * 6:02}:00:00", f"t{number % 9}"
        if number % 2:
            world.restic("backup", "-q", str(source), "--host", "h", "--time", day, "--tag", tag)
        else:
            time = f"{day.replace(' ', 'T')}Z"
            backup_into(place.repository(), source, time=time, host="h", tags=[tag])
        change(source, chance)
    return world


def test_both_find_every_byte_in_order(world: World) -> None:
    assert len(world.snapshots()) == VERSIONS
    assert "no errors were found" in world.restic("check", "--read-data")
    report = json.loads(world.cdr("check", "--read-data", "--json").splitlines()[-1])
    assert (report["num_errors"], report["versions"], report["hints"]) == (0, VERSIONS, [])
    assert report["packs"] == report["packs_read"]


def test_listings_searches_and_differences_are_the_same(world: World) -> None:
    ids = [str(one["id"]) for one in world.snapshots()]
    theirs, ours = world.both("snapshots")
    assert theirs == ours
    for id_ in ids[::6]:
        theirs, ours = world.both("ls", id_)
        pairs = zip(theirs, ours, strict=True)
        assert [{name: value for name, value in our.items() if name in their} for their, our in pairs] == theirs
    theirs, ours = world.both("find", "f1*")
    assert sorted(theirs[0], key=lambda found: str(found["snapshot"])) == sorted(
        ours[0], key=lambda found: str(found["snapshot"])
    )
    for older, newer in zip(ids[::7], ids[3::7], strict=False):
        # The first line speaks of snapshots there, of versions here.
        assert world.restic("diff", older, newer).splitlines()[1:] == world.cdr("diff", older, newer).splitlines()[1:]


@pytest.mark.parametrize("mode", ["restore-size", "files-by-contents", "raw-data"])
def test_all_versions_measure_the_same(world: World, mode: str) -> None:
    (theirs,), (ours,) = world.both("stats", "--mode", mode)
    assert {name: ours.get(name, 0) for name in theirs} == theirs


def test_what_either_copies_is_the_same_and_whole(world: World, tmp_path: Path) -> None:
    password = tmp_path / "from"
    password.write_text(world.place.password)
    places = []
    for program in ("restic", "cdr"):
        (tmp_path / program).mkdir()
        target = in_shell(make_place(tmp_path / program))
        copy = ("copy", "--from-repo", str(world.place.folder), "--from-password-file", str(password))
        target.restic(*copy) if program == "restic" else target.cdr(*copy)
        target.place.check()
        places.append(target)
    by_restic, by_cdr = places
    assert by_restic.blobs() == by_cdr.blobs()
    wanted = [(one["time"], one["tree"]) for one in world.snapshots()]
    for target in places:
        assert [(one["time"], one["tree"]) for one in target.snapshots()] == wanted
        assert "copied 0 versions, 32 were there already" in by_restic.cdr(*copy)


def test_what_either_forgets_and_prunes_leaves_the_same_blobs(world: World, tmp_path: Path) -> None:
    left = []
    for forgets, prunes in (("restic", "restic"), ("cdr", "cdr"), ("restic", "cdr"), ("cdr", "restic")):
        one = world.copied(tmp_path / f"{forgets}-{prunes}")
        run = {"restic": one.restic, "cdr": one.cdr}
        run[forgets]("forget", *POLICY)
        run[prunes]("prune", "--max-unused", "0")
        one.place.check()
        assert json.loads(one.cdr("check", "--read-data", "--json").splitlines()[-1])["num_errors"] == 0
        left.append(([str(found["id"]) for found in one.snapshots()], one.blobs()))
    assert 3 < len(left[0][0]) < VERSIONS
    oldest = str(world.snapshots()[0]["id"])
    # Newer restics keep the oldest version as long as a rule has a count left; 0.14 does not.
    assert [set(ids) - {oldest} for ids, _ in left] == [set(left[0][0]) - {oldest}] * 4
    assert left[0] == left[2] and left[1] == left[3]


def test_a_lost_index_is_rebuilt_alike(world: World, tmp_path: Path) -> None:
    wanted = world.listed()
    for program in ("restic", "cdr"):
        one = world.copied(tmp_path / program)
        for path in (one.place.folder / "index").iterdir():
            path.unlink()
        one.restic("rebuild-index") if program == "restic" else one.cdr("repair", "index")
        assert one.listed() == wanted
        one.place.check()


def test_passwords_and_tags_of_either_are_good_for_the_other(world: World, tmp_path: Path) -> None:
    one = world.copied(tmp_path / "one")
    for number, program in enumerate(("restic", "cdr")):
        new = tmp_path / f"new{number}"
        new.write_text(f"another {number}")
        {"restic": one.restic, "cdr": one.cdr}[program]("key", "add", "--new-password-file", str(new))
        assert len(json.loads(one.restic("snapshots", "--json", "-p", str(new)))) == VERSIONS
        assert len(json.loads(one.cdr("snapshots", "--json", "-p", str(new)))) == VERSIONS
    one.restic("tag", "--add", "theirs", "--tag", "t3")
    one.cdr("tag", "--add", "ours", "--tag", "theirs")
    found = [snapshot for snapshot in one.snapshots() if "t3" in snapshot["tags"]]
    assert found and all(snapshot["tags"] == ["t3", "theirs", "ours"] for snapshot in found)
    originals = {str(snapshot["id"]) for snapshot in world.snapshots()}
    assert {snapshot["original"] for snapshot in found} <= originals
    one.place.check()
