"""What is shown under another path than it is at: snapshots of file systems."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_plugin.archiver import ArchiveResult, ExcludeRules
from cdr_plugin.archiver.mapped import Locator, Mapped
from cdr_plugin.archiver.stats import devices, pack_stat
from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, decode_canonical_tree
from tests.archiver.judge import Machine
from tests.archiver.test_next_runs import opened_files, settle
from tests.support.odd_tree import make_odd_tree

DEVICE = 77
"""No file system of this machine has this number."""


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The path that users know. What is there now has changed since the snapshot."""
    folder = tmp_path / "live"
    folder.mkdir()
    (folder / "file").write_text("changed since")
    (folder / "new since").write_text("n")
    return folder


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted" / "snapshot"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "file").write_text("as it was")
    (folder / "deep" / "er" / "leaf").write_text("leaf")
    return folder


def mapping(now: Path, shown: Path, device: int = DEVICE) -> list[Mapped]:
    return [Mapped(os.fsencode(now), os.fsencode(shown), device)]


def nodes_of(machine: Machine, result: ArchiveResult) -> dict[str, Node]:
    """Every node by its path in the snapshot."""
    return dict(_nodes(machine, result.root_tree, ""))


def _nodes(machine: Machine, tree: BlobId, above: str) -> Iterator[tuple[str, Node]]:
    for node in decode_canonical_tree(machine.sink.blobs[BlobType.TREE, tree]):
        path = f"{above}/{node.name}"
        yield path, node
        if node.subtree:
            yield from _nodes(machine, BlobId(bytes.fromhex(node.subtree)), path)


def below(nodes: dict[str, Node], folder: Path) -> set[str]:
    return {path.removeprefix(f"{folder}/") for path in nodes if path.startswith(f"{folder}/")}


def content(machine: Machine, node: Node) -> bytes:
    ids = [BlobId(bytes.fromhex(id_)) for id_ in node.content or ()]
    return b"".join(machine.sink.blobs[BlobType.DATA, id_] for id_ in ids)


def test_the_tree_is_that_of_a_backup_of_the_original(tmp_path: Path, machine: Machine) -> None:
    """Byte for byte, of every kind of node: here the original is moved away and something else is in its place."""
    place, away = tmp_path / "place", tmp_path / "away"
    make_odd_tree(place / "tree")
    device = place.lstat().st_dev
    original = nodes_of(machine, machine.run(place / "tree"))[f"{place}/tree"]
    place.rename(away)
    (place / "tree").mkdir(parents=True)
    (place / "tree" / "other").write_text("o")
    machine.forget()
    result = machine.run(place / "tree", mapped=mapping(away / "tree", place / "tree", device))
    assert nodes_of(machine, result)[f"{place}/tree"] == original
    assert result.paths == [f"{place}/tree"]
    assert not result.errors and not machine.listener.notes


def test_all_nodes_bear_the_fixed_device_number(live: Path, snapshot: Path, machine: Machine) -> None:
    nodes = nodes_of(machine, machine.run(live, mapped=mapping(snapshot, live)))
    assert below(nodes, live) == {"file", "deep", "deep/er", "deep/er/leaf"}
    assert content(machine, nodes[f"{live}/file"]) == b"as it was"
    assert {nodes[path].device_id for path in nodes if path.startswith(str(live))} == {DEVICE}


def test_another_mount_of_the_same_files_changes_nothing_and_opens_no_file(
    tmp_path: Path, live: Path, snapshot: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").symlink_to(snapshot.parent)
    settle(snapshot)
    first = machine.run(live, mapped=mapping(snapshot, live))
    with opened_files(monkeypatch) as opened:
        second = machine.run(live, mapped=mapping(tmp_path / "elsewhere" / "snapshot", live))
    assert opened == []
    assert second.root_tree == first.root_tree
    assert second.counts.files_unmodified == 2


def test_a_target_inside_of_what_is_mapped(live: Path, snapshot: Path, machine: Machine) -> None:
    result = machine.run(live / "deep" / "er", live / "file", mapped=mapping(snapshot, live))
    nodes = nodes_of(machine, result)
    assert below(nodes, live) == {"file", "deep", "deep/er", "deep/er/leaf"}
    assert nodes[f"{live}/deep"].inode == (snapshot / "deep").stat().st_ino


def test_a_target_above_what_is_mapped(live: Path, snapshot: Path, machine: Machine) -> None:
    (live / "folder").mkdir()
    (live / "folder" / "replaced").write_text("live")
    both = [*mapping(snapshot, live / "folder"), *mapping(snapshot / "deep", live / "nowhere else")]
    nodes = nodes_of(machine, machine.run(live, mapped=both))
    assert below(nodes, live) == {
        *("file", "new since", "folder", "folder/file", "folder/deep", "folder/deep/er", "folder/deep/er/leaf"),
        *("nowhere else", "nowhere else/er", "nowhere else/er/leaf"),
    }
    assert nodes[f"{live}/folder"].inode == snapshot.stat().st_ino


def test_nested_maps_take_the_nearest(live: Path, snapshot: Path, tmp_path: Path, machine: Machine) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "of another").write_text("i")
    both = [*mapping(snapshot, live), *mapping(inner, live / "deep", DEVICE + 1)]
    assert below(nodes_of(machine, machine.run(live, mapped=both)), live) == {"file", "deep", "deep/of another"}


def test_patterns_tags_and_messages_speak_of_the_shown_path(live: Path, snapshot: Path, machine: Machine) -> None:
    (snapshot / "cache").mkdir()
    (snapshot / "cache" / "TAG").touch()
    (snapshot / "cache" / "big").touch()
    (snapshot / "odd").mkdir()
    (snapshot / "odd" / "TAG").write_text("of another kind")
    rules = ExcludeRules(patterns=[f"{live}/deep/er", f"{snapshot}/file"], if_present=["TAG:"])
    nodes = nodes_of(machine, machine.run(live, mapped=mapping(snapshot, live), exclude=rules))
    assert below(nodes, live) == {"file", "deep", "cache", "cache/TAG", "odd", "odd/TAG"}
    machine.run(live, mapped=mapping(snapshot, live), exclude=ExcludeRules(if_present=["TAG:expected"]))
    assert [note for note in machine.listener.notes if str(snapshot) in note] == []
    assert any(f"{live}/odd/TAG" in note for note in machine.listener.notes)


def test_a_missing_path_is_reported_as_shown(live: Path, snapshot: Path, machine: Machine) -> None:
    machine.run(live / "new since", live / "file", mapped=mapping(snapshot, live))
    assert list(machine.listener.errors) == [f"{live}/new since"]


def test_a_snapshot_that_is_not_there_makes_no_version(live: Path, tmp_path: Path, machine: Machine) -> None:
    with pytest.raises(UserError, match=r"not mounted, which source\.map has in place of .*Is the snapshot mounted"):
        machine.run(live, mapped=mapping(tmp_path / "not mounted", live))
    assert machine.run(live, mapped=mapping(tmp_path / "not mounted", tmp_path / "of no concern")).errors == 0


def test_own_folders_are_left_out_by_real_device_and_inode(live: Path, snapshot: Path, machine: Machine) -> None:
    own = (snapshot / "deep").stat()
    result = machine.run(live, mapped=mapping(snapshot, live), own=frozenset({(own.st_dev, own.st_ino)}))
    assert below(nodes_of(machine, result), live) == {"file"}


@pytest.fixture
def other_file_system() -> Iterator[Path]:
    """A folder that is not on the disk of the tests."""
    folder = Path("/dev/shm") / f"cdr-test-{os.getpid()}"
    if not folder.parent.is_dir() or folder.parent.stat().st_dev == Path().stat().st_dev:
        pytest.skip("this machine has no second file system to write to in /dev/shm")
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


def test_one_file_system_takes_what_is_mapped_for_a_file_system_of_its_own(
    live: Path, snapshot: Path, other_file_system: Path, machine: Machine
) -> None:
    (other_file_system / "kept").write_text("k")
    (snapshot / "mount").mkdir()
    both = [*mapping(snapshot, live), *mapping(other_file_system, live / "mount", DEVICE + 1)]
    nodes = nodes_of(machine, machine.run(live, mapped=both, one_file_system=True))
    assert below(nodes, live) == {"file", "deep", "deep/er", "deep/er/leaf", "mount", "mount/kept"}
    assert nodes[f"{live}/mount/kept"].device_id == DEVICE + 1


def test_a_foreign_file_system_with_our_number_gets_another(
    live: Path, other_file_system: Path, machine: Machine
) -> None:
    """Else hard links of the one would be restored as links to files of the other."""
    (other_file_system / "file").write_text("f")
    foreign = live.stat().st_dev
    target = live.parent / "target"
    result = machine.run(live, target, mapped=mapping(other_file_system, target, foreign))
    nodes = nodes_of(machine, result)
    assert nodes[f"{target}/file"].device_id == foreign
    assert nodes[f"{live}/file"].device_id == foreign | 1 << 52


def test_stat_records_change_in_nothing_but_the_device(live: Path, snapshot: Path) -> None:
    locator = Locator(b"/", mapping(snapshot, live))
    locator.use_for([os.fsencode(live)])
    real = pack_stat(snapshot.lstat())
    stable = locator.stable(real * 3)
    assert devices(stable) == [DEVICE] * 3
    assert (stable[:16] + real[16:24] + stable[24:72]) == real
