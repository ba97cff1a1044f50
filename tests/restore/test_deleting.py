"""Restores that delete: the target holds what the version does, and nothing else is ever lost."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node
from cdr_plugin.restore import Overwrite, RestoreOptions, RestoreSummary, restore
from tests.restore.memory_reader import Listener, MemoryReader, node
from tests.support.compare import assert_same_tree, tree_facts


def run(
    reader: MemoryReader, root: BlobId, target: Path, listener: Listener | None = None, **options: object
) -> RestoreSummary:
    """A restore that deletes and repairs; errors fail the test unless it listens."""
    quiet = listener or Listener()
    chosen = {"delete": True, "overwrite": Overwrite.IF_CHANGED, **options}
    summary = restore(reader, root, RestoreOptions(target=target, **chosen), quiet)  # type: ignore[arg-type]
    assert summary.errors == len(quiet.errors)
    assert listener is not None or not quiet.errors, quiet.errors
    return summary


NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
ITEMS = st.sampled_from(["one", "three", "link", "fifo"])
"""Files of different sizes: of the same size and time, if-changed would take them to be equal."""
TREES = st.recursive(
    st.dictionaries(NAMES, ITEMS, max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(ITEMS, inner), max_size=4),
    max_leaves=10,
)


def archive(reader: MemoryReader, tree: dict[bytes, object]) -> list[Node]:
    return [_node(reader, name, item) for name, item in sorted(tree.items())]


def _node(reader: MemoryReader, name: bytes, item: object) -> Node:
    if isinstance(item, dict):
        return reader.folder(name, *archive(reader, item))
    if item == "link":
        return node(name, "symlink", linktarget="b", mode=0o777)
    if item == "fifo":
        return node(name, "fifo", mode=0o600)
    return reader.file(name, str(item).encode() * 5000)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(old=TREES, new=TREES, overwrite=st.sampled_from([Overwrite.IF_CHANGED, Overwrite.ALWAYS]))
def test_over_any_other_version_it_gives_the_same_as_a_fresh_restore(
    tmp_path_factory: pytest.TempPathFactory, old: dict[bytes, object], new: dict[bytes, object], overwrite: Overwrite
) -> None:
    reader = MemoryReader()
    folder = tmp_path_factory.mktemp("t")
    first, second = (reader.tree(*archive(reader, tree)) for tree in (old, {**new, b"z": "one"}))
    run(reader, first, folder / "over")
    before = tree_facts(folder / "over")
    foreseen = run(reader, second, folder / "over", overwrite=overwrite, dry_run=True)
    assert tree_facts(folder / "over") == before, "a dry run changes nothing"
    summary = run(reader, second, folder / "over", overwrite=overwrite)
    foreseen.seconds_elapsed = summary.seconds_elapsed
    assert foreseen == summary, "a dry run foresees what happens"
    run(reader, second, folder / "fresh")
    for path in (folder / "over", folder / "fresh"):
        os.utime(path, ns=(0, 0))
    assert_same_tree(folder / "over", folder / "fresh")
    assert run(reader, second, folder / "over").files_deleted == 0


def a_target(tmp_path: Path) -> tuple[MemoryReader, BlobId, Path]:
    """A version with ``/d/f`` and ``/g``, and a target that holds that and more."""
    reader = MemoryReader()
    root = reader.tree(reader.folder("d", reader.file("f", b"1")), reader.file("g", b"2"))
    target = tmp_path / "target"
    run(reader, root, target)
    for extra in ("x.tmp", "d/x.txt", "d/more/deep/x.tmp", "d/more/keep.me", "other/x.txt"):
        (target / extra).parent.mkdir(parents=True, exist_ok=True)
        (target / extra).write_text("extra")
    return reader, root, target


def files_of(target: Path) -> set[str]:
    return {path.relative_to(target).as_posix() for path in target.rglob("*") if not path.is_dir()}


def test_what_patterns_protect_stays(tmp_path: Path) -> None:
    reader, root, target = a_target(tmp_path)
    summary = run(reader, root, target, exclude=["*.me", "/other"])
    assert files_of(target) == {"d/f", "g", "d/more/keep.me", "other/x.txt"}
    assert not (target / "d/more/deep").exists()
    assert summary.files_deleted == 4


def test_with_includes_only_what_they_match_goes(tmp_path: Path) -> None:
    reader, root, target = a_target(tmp_path)
    run(reader, root, target, include=["/d/f", "*.txt"])
    assert files_of(target) == {"d/f", "g", "x.tmp", "d/more/deep/x.tmp", "d/more/keep.me", "other/x.txt"}
    run(reader, root, target, include=["/d"])
    assert files_of(target) == {"d/f", "g", "x.tmp", "other/x.txt"}
    run(reader, root, target, include=["/other"])
    assert "other/x.txt" in files_of(target), "the version does not hold the folder, so nothing there was selected"


def test_symbolic_links_go_but_what_they_lead_to_stays(tmp_path: Path) -> None:
    reader, root, target = a_target(tmp_path)
    outside = tmp_path / "outside"
    (outside / "more").mkdir(parents=True)
    (outside / "f").write_text("safe")
    (target / "linked").symlink_to(outside)
    (target / "other/linked").symlink_to(outside)
    (target / "d/f").unlink()
    (target / "d/f").symlink_to(outside / "f")
    run(reader, root, target)
    assert files_of(target) == {"d/f", "g"}
    assert (outside / "f").read_text() == "safe" and (outside / "more").is_dir()
    (target / "d/f").unlink()
    (target / "d").rmdir()
    (target / "d").symlink_to(outside)
    run(reader, root, target)
    assert (target / "d").is_dir() and not (target / "d").is_symlink()
    assert sorted(os.listdir(outside)) == ["f", "more"] and (outside / "f").read_text() == "safe"


def test_nothing_goes_where_the_version_cannot_be_understood(tmp_path: Path) -> None:
    reader, _, target = a_target(tmp_path)
    lost = reader.folder("d", reader.file("f", b"gone"))
    root = reader.tree(lost, reader.file("g", b"2"), reader.folder("other", node(r"bad\q", "fifo")))
    del reader.blobs[BlobType.TREE, BlobId(bytes.fromhex(lost.subtree))]
    listener = Listener()
    run(reader, root, target, listener)
    assert len(listener.errors) == 2
    assert files_of(target) == {"g", "d/f", "d/x.txt", "d/more/deep/x.tmp", "d/more/keep.me", "other/x.txt"}


def test_other_file_systems_and_the_repository_inside_the_target_stay(tmp_path: Path) -> None:
    reader, root, target = a_target(tmp_path)
    mounted, repository = target / "d/more/deep", target / "other"
    assert os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(mounted)) == 0
    try:
        (mounted / "x").write_text("safe")
        listener = Listener()
        run(reader, root, target, listener, protect=[repository, tmp_path / "missing"])
        assert (mounted / "x").read_text() == "safe"
        assert "another file system" in listener.errors["/d/more/deep"]
        assert "holds the repository" in listener.errors["/other"]
        assert files_of(target) == {"d/f", "g", "d/more/deep/x", "other/x.txt"}
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(mounted))


def test_a_folder_of_the_same_file_system_that_is_mounted_inside_the_target_stays(tmp_path: Path) -> None:
    reader, root, target = a_target(tmp_path)
    mounted, home = target / "d/more/deep", tmp_path / "home"
    home.mkdir()
    (home / "letters").write_text("safe")
    assert os.spawnlp(os.P_WAIT, "mount", "mount", "--bind", str(home), str(mounted)) == 0
    try:
        for dry_run in (True, False):
            listener = Listener()
            run(reader, root, target, listener, dry_run=dry_run)
            assert list(listener.errors) == ["/d/more/deep"] and "unmount it first" in listener.errors["/d/more/deep"]
            assert (home / "letters").read_text() == "safe"
        assert files_of(target) == {"d/f", "g", "d/more/deep/letters"}
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(mounted))


def test_the_root_of_the_machine_needs_a_selection(tmp_path: Path) -> None:
    reader = MemoryReader()
    (tmp_path / "link").symlink_to("/")
    for target in (Path("/"), Path("/tmp/.."), tmp_path / "link"):
        with pytest.raises(UserError, match="needs includes or excludes"):
            run(reader, reader.tree(), target, dry_run=True)


def test_who_keeps_existing_files_keeps_them_under_any_type(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(reader.folder("d", reader.file("f", b"1")), reader.file("g", b"2"))
    (tmp_path / "g").mkdir()
    (tmp_path / "d").write_text("kept")
    listener = Listener()
    summary = run(reader, root, tmp_path, listener, overwrite=Overwrite.NEVER)
    assert (tmp_path / "g").is_dir() and (tmp_path / "d").read_text() == "kept"
    assert set(listener.errors) == {"/d"} and summary.files_skipped == 1


def test_each_item_is_told(tmp_path: Path) -> None:
    reader, root, target = a_target(tmp_path)
    (target / "g").write_text("changed")
    listener = Listener()
    run(reader, root, target, listener, report_items=True)
    told = {item: action for action, item, _ in listener.items}
    assert told["/d/f"] == "unchanged" and told["/g"] == "updated" and told["/d"] == "restored"
    assert {item for item, action in told.items() if action == "deleted"} == {
        "/x.tmp", "/d/x.txt", "/d/more", "/d/more/deep", "/d/more/deep/x.tmp", "/d/more/keep.me", "/other",
        "/other/x.txt",
    }  # fmt: skip
