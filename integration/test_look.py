"""``cdr ls``, ``find``, ``diff`` and ``dump`` next to restic's on one repository: an odd tree, and a
folder that changes from version to version."""

from __future__ import annotations

import io
import json
import os
import random
import re
import subprocess
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.restic.world import PASSWORD, Place, make_place
from tests.support.changing import change, many_files
from tests.support.compare import Facts, assert_same_tree
from tests.support.odd_tree import make_odd_tree

from .command import CDR, Shell

VERSIONS = 10


@dataclass
class World:
    """A repository of restic's, what was backed up, and the IDs of its snapshots, oldest first: the
    odd tree, then the changing one."""

    place: Place
    shell: Shell
    odd: Path
    ids: list[str]

    def restic(self, *arguments: str) -> str:
        return self.shell.restic(*arguments).out

    def cdr(self, *arguments: str, code: int = 0) -> str:
        return self.shell.cdr(*arguments, code=code).out

    def both(self, *arguments: str) -> tuple[list[Any], list[Any]]:
        """The JSON lines that each prints."""
        theirs, ours = self.restic(*arguments, "--json"), self.cdr(*arguments, "--json")
        return [json.loads(line) for line in theirs.splitlines()], [json.loads(line) for line in ours.splitlines()]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("look")
    place = make_place(folder)
    variables = {"RESTIC_REPOSITORY": str(place.folder), "RESTIC_PASSWORD": PASSWORD}
    world = World(place, Shell(folder, variables), folder / "odd", [])
    make_odd_tree(world.odd)
    world.restic("backup", "-q", "odd")
    source = random.Random(11)
    changing = folder / "changing"
    many_files(changing, source, files=90)
    for number in range(VERSIONS):
        host, tags = ("alice", "bob")[number % 2], ("day", f"n{number}")
        world.restic("backup", "-q", "changing", "--host", host, "--tag", ",".join(tags))
        change(changing, source)
        _change_kinds(changing, number)
    world.ids += [one["id"] for one in json.loads(world.restic("snapshots", "--json"))]
    assert len(world.ids) == VERSIONS + 1
    return world


def _change_kinds(folder: Path, number: int) -> None:
    """A file becomes a link becomes a folder, and modes change."""
    kind = folder / "kind"
    if kind.is_dir() and not kind.is_symlink():
        (kind / "inside").unlink()
        kind.rmdir()
    kind.unlink(missing_ok=True)
    if number % 3 == 0:
        kind.write_text("a file")
    elif number % 3 == 1:
        kind.symlink_to(f"target{number}")
    else:
        kind.mkdir()
        (kind / "inside").write_text("x")
    (folder / "large0").chmod(0o600 + number)


def _without(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def test_ls_lists_every_version_as_restic_does(world: World) -> None:
    for id_ in world.ids[:4]:
        theirs, ours = world.both("ls", id_)
        assert len(ours) > 50
        # message_type and inode are restic's since 0.17 and 0.19.
        assert [_without(one, "message_type", "inode") for one in ours] == theirs
        assert {one["message_type"] for one in ours} == {"snapshot", "node"}
        assert all(one["inode"] for one in ours[1:])


def test_ls_chooses_folders_as_restic_does(world: World) -> None:
    for arguments in (
        ("/changing/d1",),
        ("/changing/d1", "--recursive"),
        ("/changing/d1/e0", "/changing/d2"),
        ("/",),
        ("/nowhere",),
    ):
        theirs, ours = world.both("ls", "latest", "--host", "bob", *arguments)
        assert [one.get("path") for one in ours] == [one.get("path") for one in theirs], arguments


def test_ls_in_long_lines_says_what_restic_says(world: World) -> None:
    for id_ in (world.ids[0], world.ids[-1]):
        theirs, ours = world.restic("ls", "-l", id_).split("\n"), world.cdr("ls", "-l", id_).split("\n")
        plain = [line for line in ours[1:] if line.isascii() and "\\" not in line]
        assert set(plain) <= set(theirs)
        assert len(plain) > 0.7 * len(theirs)


def test_ls_of_a_folder_shows_paths_below_it(world: World) -> None:
    below = world.cdr("ls", world.ids[-1], "/changing", "--recursive").splitlines()[1:]
    inside = world.cdr("ls", f"{world.ids[-1]}:/changing", "-q").splitlines()
    assert ["/changing" + path for path in inside] == below[1:]


@pytest.mark.parametrize(
    "arguments",
    [
        ("f1*",),
        ("large0", "kind"),
        ("/changing/d1/e0",),
        ("-i", "*INSIDE", "F2?"),
        ("--host", "alice", "f1?"),
        ("--tag", "day,n3", "f*"),
        ("--newest", "2017-07-14 02:42:00", "inside"),
        ("--oldest", "2018-01-01", "*"),
        ("symlinks",),
        ("no such name",),
    ],
    ids=" ".join,
)
def test_find_finds_what_restic_finds(world: World, arguments: tuple[str, ...]) -> None:
    ([theirs], [ours]) = world.both("find", *arguments)
    assert [one["snapshot"] for one in ours] == [id_ for id_ in world.ids if id_ in {one["snapshot"] for one in ours}]
    assert {one["snapshot"]: one for one in ours} == {one["snapshot"]: one for one in theirs}


def test_find_in_one_version_and_in_words(world: World) -> None:
    said = world.cdr("find", "-s", world.ids[3][:8], "-l", "large0").splitlines()
    assert re.fullmatch(rf"Found matching entries in version {world.ids[3][:8]} from \d{{4}}-[-0-9: ]+", said[0])
    assert said[1:] == world.restic("find", "-s", world.ids[3], "-l", "large0").splitlines()[1:]


def _node(world: World, id_: str, path: str) -> tuple[str, dict[str, Any]]:
    """The tree that holds ``path``, and its node."""
    tree = json.loads(world.restic("cat", "snapshot", id_))["tree"]
    *folders, name = path.strip("/").split("/")
    for folder in folders:
        nodes = json.loads(world.restic("cat", "blob", tree))["nodes"]
        tree = next(node["subtree"] for node in nodes if node["name"] == folder)
    nodes = json.loads(world.restic("cat", "blob", tree))["nodes"]
    return tree, next(node for node in nodes if node["name"] == name)


def test_find_by_blob_tree_and_pack(world: World) -> None:
    tree, node = _node(world, world.ids[1], "/changing/large1")
    blob = node["content"][0]
    ([theirs], [ours]) = world.both("find", "--blob", blob[:8])
    assert sorted(map(json.dumps, ours)) == sorted(map(json.dumps, theirs))
    assert {one["snapshot"] for one in ours} >= {world.ids[1]}
    assert all(one["parent_tree"] != tree or one["snapshot"] == world.ids[1] for one in ours)
    ([theirs], [ours]) = world.both("find", "--tree", tree)
    assert ours == theirs
    shown = world.cdr("find", "--blob", blob, "--show-pack-id")
    (pack,) = set(re.findall(r"in pack ([0-9a-f]{64})", shown))
    ([theirs], [ours]) = world.both("find", "--pack", pack)
    once = {json.dumps(one) for one in theirs}
    assert {json.dumps(one) for one in ours} == once
    assert len(ours) == len(once), "restic tells a repeated blob of a file again and again"
    assert blob in {one["id"] for one in ours}


def test_what_a_lost_pack_held_is_known_from_the_index(world: World, tmp_path: Path) -> None:
    copy = world.place.copy(tmp_path)
    pack = next(path for path in sorted(copy.folder.glob("data/*/*")) if path.stat().st_size > 1_000_000)
    arguments = ("find", "-r", str(copy.folder), "--pack", pack.name[:10], "--json")
    whole = world.cdr(*arguments)
    pack.unlink()
    assert world.cdr(*arguments) == whole != "[]\n"
    failed = world.shell.cdr("find", "-r", str(copy.folder), "--pack", "abcdef0123", code=1)
    assert "there is no such pack" in failed.error


def test_diff_tells_what_restic_tells(world: World) -> None:
    for number, (one, other) in enumerate(((1, 2), (2, 3), (3, 4), (4, 9), (-1, 1), (0, 1))):
        options = ("--metadata",) if number % 2 else ()
        theirs, ours = world.both("diff", *options, world.ids[one], world.ids[other])
        assert ours == theirs


def test_diff_in_words_says_what_restic_says(world: World) -> None:
    arguments = ("diff", "--metadata", world.ids[3], world.ids[5])
    theirs, ours = (text.splitlines() for text in (world.restic(*arguments), world.cdr(*arguments)))
    assert ours[0] == f"comparing version {world.ids[3][:8]} to {world.ids[5][:8]}:"
    assert ours[1:] == theirs[1:]


def test_diff_of_folders(world: World) -> None:
    whole = world.cdr("diff", world.ids[1], world.ids[4]).splitlines()
    part = world.cdr("diff", f"{world.ids[1]}:/changing", f"{world.ids[4]}:/changing").splitlines()
    lines = [line for line in whole if line[:1] in "+-MT" and "/" in line]
    assert lines and [line.replace("/changing/", "/") for line in lines] == part[2 : 2 + len(lines)]


def _dumped(world: World, *arguments: str) -> bytes:
    command = [str(CDR), "dump", *arguments]
    return subprocess.run(command, env=world.shell.environment(), check=True, capture_output=True).stdout


def test_a_dumped_file_has_the_bytes_of_the_source(world: World, tmp_path: Path) -> None:
    for name in ("contents/sparse", "contents/several-blobs", "contents/empty", "contents/one"):
        assert _dumped(world, world.ids[0], f"/odd/{name}") == (world.odd / name).read_bytes()
    target = tmp_path / "target"
    target.write_text("older")
    world.cdr("dump", f"{world.ids[0]}:odd/contents", "several-blobs", "--target", str(target))
    assert target.read_bytes() == (world.odd / "contents/several-blobs").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def _not_for_restic_014(path: bytes, field: str, facts: Facts) -> bool:
    """What restic 0.14 does not store: attributes of links, and targets that are not UTF-8."""
    return path in (b"symlinks/raw", b"symlinks/attributed") and field in ("target", "xattrs")


def test_gnu_tar_restores_a_dumped_folder_with_everything(world: World, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    world.cdr("dump", world.ids[0], "/", "-t", str(archive))
    unpack = ["tar", "--xattrs", "--xattrs-include=*", "--acls", "--numeric-owner", "-xpf", archive]
    subprocess.run(unpack, cwd=tmp_path, check=True, capture_output=True)
    assert_same_tree(world.odd, tmp_path / "odd", _not_for_restic_014)


def _contents(data: bytes) -> dict[str, bytes | str | None]:
    """Of a tar, by name: the bytes of a file, the target of a link, None for anything else."""
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for member in archive:
            if member.islnk():  # restic writes the content, or the link, once more
                found[member.name] = found[member.linkname]
            elif member.isreg():
                file = archive.extractfile(member)
                found[member.name] = file.read() if file else None
            else:
                found[member.name] = member.linkname if member.issym() else None
    return found


def test_a_tar_holds_what_restics_holds(world: World) -> None:
    for id_, folder in ((world.ids[-1], "/"), (world.ids[0], "/odd/hard-links"), (world.ids[0], "/odd/names")):
        environment = {**os.environ, **world.shell.environment()}
        theirs = subprocess.run(
            ["restic", "--no-cache", "dump", id_, folder], env=environment, check=True, capture_output=True
        ).stdout
        itself = {folder.strip("/"): None} if folder != "/" else {}
        expected = {**itself, **_contents(theirs)}
        for name in expected.keys() & {f"odd/hard-links/device-{letter}" for letter in "ab"}:
            expected[name] = None  # a device, of which restic makes an empty file
        assert _contents(_dumped(world, id_, folder)) == expected


def test_a_zip_holds_what_the_source_holds(world: World, tmp_path: Path) -> None:
    archive = zipfile.ZipFile(io.BytesIO(_dumped(world, world.ids[0], "/odd/contents", "-a", "zip")))
    assert archive.testzip() is None
    files = {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
    source = [path for path in (world.odd / "contents").iterdir() if path.is_file()]
    assert files == {f"odd/contents/{path.name}": path.read_bytes() for path in source}
    (tmp_path / "a.zip").write_bytes(_dumped(world, world.ids[0], "/odd/modes", "-a", "zip"))
    subprocess.run(["unzip", "-q", "-X", "-K", tmp_path / "a.zip"], cwd=tmp_path, check=True)
    assert_same_tree(world.odd / "modes", tmp_path / "odd/modes", lambda path, field, facts: field == "mtime_ns")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ls", "latest", "relative"), "paths inside a version are absolute"),
        (("ls", "latest:/no/such"), "has no folder"),
        (("ls", "0000"), "no version"),
        (("find", "--blob", "xyz"), "is no ID"),
        (("find", "["), "is malformed"),
        (("find", "--oldest", "2020", "x"), "write it as '2024-05-31'"),
        (("diff", "latest", "nothing"), "no version"),
        (("dump", "latest", "/changing/nowhere"), "there is no '/changing/nowhere' in this version"),
        (("dump", "latest", "/changing/large0", "-t", "/no/such/folder/file"), "choose another --target"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_cannot_be_done_is_said_in_one_line(world: World, arguments: tuple[str, ...], said: str) -> None:
    assert said in world.shell.cdr(*arguments, code=1).error
