"""What a catalog saves, and that it never changes the result."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin import kernel
from cdr_plugin.archiver import ArchiveResult, catalog_blobs, reading
from tests.archiver.judge import Machine
from tests.support.odd_tree import make_odd_tree

SMALL = {"min_size": 256, "max_size": 4096, "bits": 8}


@contextmanager
def opened_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """The names of the files that are opened for reading."""
    found: list[bytes] = []
    real_read, real_open = kernel.read_files, reading._open

    def read_files(directory: bytes, names: Any, limit: int) -> Any:
        found.extend(names)
        return real_read(directory, names, limit)

    def open_(path: bytes) -> int:
        found.append(os.path.basename(path))
        return real_open(path)

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "read_files", read_files)
        patch.setattr(reading, "_open", open_)
        yield found


def settle(folder: Path) -> None:
    """Let nothing in ``folder`` be fresh: the clock of ctimes has ticked since the last change.

    No time can be set as a ctime, so the clock is asked until it has moved on.
    """
    probe = folder.parent / "probe"
    # Not rglob: in some versions of Python it fails for links to what has too long a name.
    below = [Path(parent) / name for parent, folders, files in os.walk(folder) for name in (*folders, *files)]
    newest = max(entry.lstat().st_ctime_ns for entry in [folder, *below])
    while True:
        probe.write_bytes(b"x")
        if probe.stat().st_ctime_ns > newest + 25_000_000:
            break
    probe.unlink()


def test_unchanged_files_are_not_opened_and_nothing_is_handed_out(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "home" / "tree"
    make_odd_tree(tree)
    settle(tree)
    first = machine.run("tree", cwd=tree.parent)
    given = machine.sink.given
    with opened_files(monkeypatch) as opened:
        second = machine.run("tree", cwd=tree.parent)
    assert opened == []
    assert machine.sink.given == given
    assert second.root_tree == first.root_tree
    assert second.counts.files_unmodified == first.counts.files_new == second.counts.total_files_processed
    assert second.counts.dirs_unmodified == first.counts.dirs_new
    assert second.counts.total_bytes_processed == first.counts.total_bytes_processed


def test_in_a_changed_folder_only_changed_files_are_opened(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (source / name).write_text(name)
    settle(source)
    machine.run(source)
    (source / "b").write_text("other")
    settle(source)
    with opened_files(monkeypatch) as opened:
        result = machine.run(source)
    assert opened == [b"b"]
    assert (result.counts.files_changed, result.counts.files_unmodified) == (1, 2)


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({"ignore_ctime": True}, lambda path: path.chmod(0o600)),
        ({"ignore_inode": True}, lambda path: Path(shutil.copy2(path, f"{path}.new")).replace(path)),
    ],
)
def test_what_is_ignored_opens_no_file(
    source: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    change: Callable[[Path], object],
) -> None:
    (source / "file").write_text("file")
    settle(source)
    machine.run(".", cwd=source)  # an absolute path has the times of /tmp in its tree
    change(source / "file")
    settle(source)
    catalog = machine.catalog
    with opened_files(monkeypatch) as opened:
        ignoring = machine.run(".", cwd=source, **options)
    assert opened == []
    machine.catalog = catalog
    with opened_files(monkeypatch) as opened:
        assert machine.run(".", cwd=source).root_tree == ignoring.root_tree
    assert opened == [b"file"]


def test_a_file_that_was_just_written_is_read_again(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It could be written once more within one tick of the clock and keep its times and size."""
    (source / "old").write_text("old")
    settle(source)
    (source / "fresh").write_text("fresh")
    now_ns = (source / "fresh").stat().st_ctime_ns
    monkeypatch.setattr("time.time_ns", lambda: now_ns + 1)
    machine.run(source)
    monkeypatch.undo()
    with opened_files(monkeypatch) as opened:
        machine.run(source)
    assert opened == [b"fresh"]


def test_a_renamed_user_changes_the_trees(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "folder").mkdir()
    (source / "folder" / "file").write_text("x")
    settle(source)
    first = machine.run(".", cwd=source)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: type("Entry", (), {"pw_name": "renamed"}))
    with opened_files(monkeypatch) as opened:
        renamed = machine.run(".", cwd=source)
    assert opened == []
    assert renamed.root_tree != first.root_tree
    machine.forget()
    assert machine.run(".", cwd=source).root_tree == renamed.root_tree


# --- histories of random edits


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def _folders(root: Path) -> list[Path]:
    return [root, *(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())]


def _new_name(chance: random.Random, root: Path) -> Path:
    return chance.choice(_folders(root)) / chance.choice(("a", "a-", "a.b", "b", "c", "ü", "z z"))


def create(chance: random.Random, root: Path) -> None:
    path = _new_name(chance, root)
    if not os.path.lexists(path):
        kind = chance.randrange(6)
        if kind == 0:
            path.mkdir()
        elif kind == 1:
            path.symlink_to("a")
        elif kind == 2:
            os.mkfifo(path)
        else:
            path.write_bytes(chance.randbytes(chance.choice((0, 1, 300, 5000))))


def edit(chance: random.Random, root: Path) -> None:
    for path in chance.sample(_files(root), min(2, len(_files(root)))):
        with path.open("r+b") as file:
            file.write(chance.randbytes(min(path.stat().st_size, 10) or 1))


def rename(chance: random.Random, root: Path) -> None:
    everything = list(root.rglob("*"))
    if everything:
        target = _new_name(chance, root)
        path = chance.choice(everything)
        if not os.path.lexists(target) and path not in target.parents:
            path.rename(target)


def remove(chance: random.Random, root: Path) -> None:
    everything = list(root.rglob("*"))
    if everything:
        path = chance.choice(everything)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def chmod(chance: random.Random, root: Path) -> None:
    chance.choice(_folders(root) + _files(root)).chmod(chance.choice((0o700, 0o755, 0o644)))


def touch(chance: random.Random, root: Path) -> None:
    os.utime(chance.choice(_folders(root) + _files(root)))


def attribute(chance: random.Random, root: Path) -> None:
    os.setxattr(chance.choice(_folders(root) + _files(root)), "user.x", chance.randbytes(3))


def retype(chance: random.Random, root: Path) -> None:
    """A file becomes a folder, or the other way round, under its old name."""
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    if paths:
        path = chance.choice(paths)
        if path.is_dir():
            shutil.rmtree(path)
            path.write_bytes(b"was a folder")
        else:
            path.unlink()
            path.mkdir()


EDITS = (create, create, create, edit, edit, rename, remove, chmod, touch, attribute, retype)


@pytest.mark.parametrize("seed", range(12))
def test_a_catalog_never_changes_the_tree(source: Path, machine: Machine, seed: int) -> None:
    chance = random.Random(seed)
    machine = Machine(machine.folder, **SMALL)
    for _ in range(25):
        create(chance, source)
    for _ in range(25):
        for _ in range(chance.randrange(4)):
            chance.choice(EDITS)(chance, source)
        with_catalog = machine.run("source", cwd=source.parent)
        assert _named(machine) <= machine.sink.blobs.keys()
        assert with_catalog.root_tree == _without_catalog(machine, source).root_tree


def _named(machine: Machine) -> set[tuple[Any, Any]]:
    assert machine.catalog is not None
    return set(catalog_blobs(machine.catalog))


def _without_catalog(machine: Machine, source: Path) -> ArchiveResult:
    catalog, machine.catalog = machine.catalog, None
    given = dict(machine.sink.blobs)
    try:
        result = machine.run("source", cwd=source.parent)
        assert machine.sink.blobs.keys() == given.keys(), "the run with a catalog held blobs back"
        return result
    finally:
        machine.catalog = catalog
