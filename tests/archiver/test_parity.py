"""The root tree ID equals the one that restic itself writes for the same files."""

from __future__ import annotations

import os
import re
from datetime import timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdr_plugin.archiver import ArchiveResult
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.trees import decode_canonical_tree
from tests.archiver.judge import Machine, Restic, agree
from tests.support.odd_tree import make_odd_tree


@pytest.fixture(scope="module")
def odd(quiet: Path) -> Path:
    """Every kind of node that restic 0.14 and 0.19 write alike."""
    tree = quiet / "odd" / "tree"
    make_odd_tree(tree)
    for name in ("raw", "attributed"):
        (tree / "symlinks" / name).unlink()
    for name, size in (("limit", 512 << 10), ("limit+1", (512 << 10) + 1), ("big", 20 << 20)):
        (tree / "contents" / name).write_bytes(os.urandom(size))
    return tree


def assert_complete(machine: Machine, result: ArchiveResult) -> None:
    """Everything that the root tree reaches was given to the sink, and is sound."""
    pending = [result.root_tree]
    while pending:
        for node in decode_canonical_tree(machine.sink.blobs[BlobType.TREE, pending.pop()]):
            if node.subtree:
                pending.append(type(result.root_tree)(bytes.fromhex(node.subtree)))
            ids = [type(result.root_tree)(bytes.fromhex(id_)) for id_ in node.content or ()]
            assert sum(len(machine.sink.blobs[BlobType.DATA, id_]) for id_ in ids) == node.size


def test_a_tree_of_every_kind_of_node(odd: Path, restic: Restic, judged: Machine) -> None:
    result = agree(restic, judged, str(odd))
    assert not result.errors
    assert not judged.listener.errors
    assert not judged.listener.notes
    assert_complete(judged, result)


@pytest.mark.parametrize("zone", ["America/St_Johns", "Asia/Kathmandu", "Europe/Amsterdam", "Pacific/Apia"])
def test_every_time_zone(odd: Path, restic: Restic, judged: Machine, zone: str) -> None:
    expected = restic.backup("times", cwd=odd, tz=zone)["tree"]
    assert judged.run("times", cwd=odd, zone=ZoneInfo(zone)).root_tree.hex() == expected


def test_a_changed_zone_changes_every_tree_but_opens_no_file(odd: Path, judged: Machine) -> None:
    first = judged.run("contents", cwd=odd)
    data = {key for key in judged.sink.blobs if key[0] is BlobType.DATA}
    moved = judged.run("contents", cwd=odd, zone=timezone(timedelta(hours=5, minutes=45)))
    assert moved.root_tree != first.root_tree
    assert {key for key in judged.sink.blobs if key[0] is BlobType.DATA} == data
    assert judged.run("contents", cwd=odd).root_tree == first.root_tree


@pytest.fixture(scope="module")
def plot(quiet: Path) -> Path:
    """Folders in which targets can be named in many ways."""
    base = quiet / "plot"
    for path in ("work/rel/a", "work/rel/deep/b", "work/x", "rel/c", "rel/deep/d", "other/y"):
        file = base / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)
    (base / "work" / "link").symlink_to("rel")
    (base / "work" / "empty").mkdir()
    (base / "work" / "far").symlink_to(base / "other")
    return base


TARGETS = [
    ["rel"],
    ["./rel/"],
    ["."],
    [".."],
    ["../rel"],
    ["rel", "../rel"],
    ["../rel", "rel", "{base}/rel"],
    ["rel", "rel-1"],
    ["../rel/deep", "rel/deep", "../rel/c"],
    ["rel", "rel/deep"],
    ["rel/deep/b", "rel"],
    ["rel/deep/b", "."],
    ["{base}/work", "{base}/work/rel/deep", "{base}/other/y"],
    ["{base}/work/rel/a", "x", "empty"],
    ["x", "x", "./x"],
    ["link"],
    ["link/a"],
    ["link/deep", "link/a"],
    ["{base}/work/link/deep"],
    ["rel/../x"],
    ["far/../rel"],
    ["far/y"],
    ["/dev/null", "/dev/zero"],
]


@pytest.mark.parametrize("targets", TARGETS, ids=" ".join)
def test_targets_are_laid_out_as_restic_does(
    plot: Path, restic: Restic, judged: Machine, targets: list[str]
) -> None:
    paths = [target.format(base=plot) for target in targets]
    assert_complete(judged, agree(restic, judged, *paths, cwd=plot / "work"))


COUNTED = re.compile(r"(Files|Dirs): +(\d+) new, +(\d+) changed, +(\d+) unmodified")


def test_counts_are_those_of_restic(source: Path, restic: Restic, judged: Machine) -> None:
    for number in range(6):
        (source / f"folder{number}").mkdir()
        (source / f"folder{number}" / "file").write_text("one")
    os.mkfifo(source / "fifo")
    (source / "link").symlink_to("fifo")
    for _ in range(2):
        said = restic.backup("source", cwd=source.parent, parent=True)["said"]
        counts = judged.run("source", cwd=source.parent).counts
        assert COUNTED.findall(said) == [
            ("Files", *map(str, (counts.files_new, counts.files_changed, counts.files_unmodified))),
            ("Dirs", *map(str, (counts.dirs_new, counts.dirs_changed, counts.dirs_unmodified))),
        ]
        assert f"processed {counts.total_files_processed} files" in said
        (source / "folder1" / "file").write_text("two")
        (source / "folder2" / "file").chmod(0o600)
        (source / "folder3" / "new").write_text("new")
        (source / "folder4").chmod(0o700)
        (source / "fifo").unlink(missing_ok=True)


LINKS: list[tuple[bytes, bytes]] = [
    (b"\b\f\x01\x7f", b'"linktarget":"\\b\\f\\u0001\x7f","content":null'),
    (
        b"raw \xff\xe2\x82/\xef\xbf\xbd",
        b'"linktarget":"raw \\ufffd\\ufffd\\ufffd/\xef\xbf\xbd","linktarget_raw":"cmF3IP/igi/vv70=","content":null',
    ),
]


@pytest.mark.parametrize(("target", "form"), LINKS)
def test_link_targets_have_the_form_of_restic_0_19(
    source: Path, judged: Machine, target: bytes, form: bytes
) -> None:
    os.symlink(target, os.fsencode(source / "link"))
    result = judged.run("link", cwd=source)
    tree = judged.sink.blobs[BlobType.TREE, result.root_tree]
    assert form in tree
    decode_canonical_tree(tree)


def test_attributes_of_symlinks_have_the_form_of_restic_0_19(source: Path, judged: Machine) -> None:
    (source / "link").symlink_to("nowhere")
    os.setxattr(source / "link", "trusted.x", b"\0\xff", follow_symlinks=False)
    result = judged.run("link", cwd=source)
    tree = judged.sink.blobs[BlobType.TREE, result.root_tree]
    expected = b'"linktarget":"nowhere","extended_attributes":[{"name":"trusted.x","value":"AP8="}],"content":null'
    assert expected in tree


def test_atimes_when_asked_for(source: Path, restic: Restic, judged: Machine) -> None:
    (source / "folder").mkdir()
    for name in ("a", "folder/b"):
        (source / name).write_text(name)
        os.utime(source / name, ns=(1_700_000_000_123_456_789, 1_600_000_000_000_000_000))
    with_atime = agree(restic, judged, ".", cwd=source, rules=["--with-atime"], with_atime=True)
    assert judged.run(".", cwd=source).root_tree != with_atime.root_tree


def test_a_missing_target_is_reported_and_the_rest_is_archived(
    source: Path, restic: Restic, judged: Machine
) -> None:
    (source / "a").write_text("a")
    missing = source / "missing"
    result = agree(restic, judged, str(source), str(missing))
    assert result.incomplete
    assert judged.listener.errors == {str(missing): "No such file or directory"}
