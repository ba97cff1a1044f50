"""The next version travels as deltas: few bytes, and the repository holds exactly the files."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.hierarchy import Hierarchy

MB = 1_000_000


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def database(path: Path) -> None:
    """A table of 4 MB that does not compress."""
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)")
        chance = random.Random(1)
        db.executemany("INSERT INTO t (data) VALUES (?)", ((chance.randbytes(200),) for _ in range(18_000)))


def update_rows(source: Path) -> None:
    with closing(sqlite3.connect(source / "db")) as db, db:
        rows = ((noise(row, 200), row) for row in range(300, 18_000, 900))
        db.executemany("UPDATE t SET data=? WHERE id=?", rows)


def append(source: Path) -> None:
    with (source / "mail").open("ab") as file:
        file.write(noise(7, 30_000))


def insert_at_the_start(source: Path) -> None:
    path = source / "big"
    path.write_bytes(b"a few bytes more" + path.read_bytes())


def rename_and_edit(source: Path) -> None:
    (source / "big").rename(source / "other name")
    with (source / "other name").open("r+b") as file:
        file.seek(1_234_567)
        file.write(b"edited")


def rename_folder_and_save_in_it(source: Path) -> None:
    """Saved as editors do: another file takes the place of the old one, with an inode of its own."""
    (source / "folder").rename(source / "renamed")
    path = source / "renamed" / "document"
    (source / "renamed" / "new").write_bytes(path.read_bytes().replace(b"\0\0\0", b"xyz", 1) + b"end")
    (source / "renamed" / "new").replace(path)


def save_by_rename(source: Path) -> None:
    data = bytearray((source / "big").read_bytes())
    data[2_000_000:2_000_010] = b"0123456789"
    (source / "new").write_bytes(data)
    (source / "new").replace(source / "big")


def touch_one_of_many(source: Path) -> None:
    (source / "many" / "file-0700").write_bytes(b"changed")


def edit_small_files(source: Path) -> None:
    for number in range(30):
        path = source / "small" / str(number)
        path.write_bytes(path.read_bytes() + b"one more line")


CHANGES: list[tuple[Callable[[Path], None], int, int]] = [
    (update_rows, 22_000, 10_000),
    (append, 34_000, 34_000),
    (insert_at_the_start, 4_000, 4_000),
    (save_by_rename, 4_500, 4_000),
    (rename_and_edit, 4_500, 4_000),
    (rename_folder_and_save_in_it, 4_000, 4_000),
    (touch_one_of_many, 4_000, 4_000),
    (edit_small_files, 10_000, 10_000),
]
"""What happens between two versions, and the most bytes that the second may take: with signatures, with copies."""


def populate(source: Path) -> None:
    for name in ("folder", "many", "small"):
        (source / name).mkdir(parents=True)
    database(source / "db")
    (source / "mail").write_bytes(noise(2, 2 * MB))
    (source / "big").write_bytes(noise(3, 4 * MB))
    (source / "folder" / "document").write_bytes(noise(4, MB))
    for number in range(1000):
        (source / "many" / f"file-{number:04}").touch()
    for number in range(30):
        (source / "small" / str(number)).write_bytes(noise(100 + number, 20_000))


@pytest.mark.parametrize("keeps_copy", [False, True])
def test_the_next_version_costs_what_has_changed(tmp_path: Path, keeps_copy: bool) -> None:
    source = tmp_path / "source"
    populate(source)
    world = Hierarchy.make(tmp_path / "base", source, methods=("delta", "zstd"), keeps_copy=keeps_copy)
    world.backup()
    world.deliver()
    trees = [world.source_tree()]
    for change, with_signatures, with_copies in CHANGES:
        change(source)
        spooled = world.backup().spool.spooled_bytes
        assert spooled <= (with_copies if keeps_copy else with_signatures), change.__name__
        world.deliver()
        trees.append(world.source_tree())
    assert list(world.versions().values()) == trees
    world.assert_settled()
    world.assert_restores(tmp_path / "restored")
