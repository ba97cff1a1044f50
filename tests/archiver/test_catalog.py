"""Catalogs on disk: whole or refused."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.archiver.catalog import CatalogReader, CatalogWriter, Facts, comes_before, make_record
from cdr_plugin.errors import FormatError, UnknownVersionError
from cdr_plugin.kernel import STAT_RECORD
from cdr_plugin.model.blobs import BlobId, blob_id
from tests.archiver.judge import Machine


def write(path: Path, keys: list[bytes]) -> None:
    with CatalogWriter(path, Facts("form", {0: "root"}, {5: ""})) as writer:
        for key in keys:
            writer.add(record(key))
        writer.finish()


def record(key: bytes) -> bytes:
    return make_record(
        key=key,
        names=[],
        stats=b"",
        tree=blob_id(key),
        subtrees=b"",
        counts=[],
        content=b"",
        file_bytes=7,
        dirty=False,
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    write(path, [b"a/b", b"a", b"b", b""])
    with CatalogReader(path) as catalog:
        assert catalog.facts == Facts("form", {0: "root"}, {5: ""})
        found = catalog.find(b"a")
        assert found is not None
        assert (found.key, found.tree, found.file_bytes, found.entries()) == (b"a", blob_id(b"a"), 7, {})
        assert catalog.find(b"aa") is None
        assert [rest.key for rest in catalog] == [b"b", b""]


components = st.lists(st.binary(min_size=1, max_size=2).filter(lambda name: b"/" not in name), max_size=3)


@given(st.lists(components, min_size=1, max_size=12, unique_by=tuple))
def test_walk_order_is_a_total_order_with_the_root_last(folders: list[list[bytes]]) -> None:
    """Descending into children in byte order and naming a folder after its children gives it."""
    wanted: list[bytes] = []
    all_folders = {tuple(folder[:end]) for folder in folders for end in range(len(folder) + 1)}

    def walk(folder: tuple[bytes, ...]) -> None:
        for child in sorted(other for other in all_folders if other[:-1] == folder and other):
            walk(child)
        wanted.append(b"/".join(folder))

    walk(())
    for i, one in enumerate(wanted):
        for j, other in enumerate(wanted):
            assert comes_before(one, other) == (i < j)


@pytest.fixture
def catalog(source: Path, machine: Machine) -> Path:
    for name in ("a", "b/c", "b/d/e"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    machine.run(source)
    assert machine.catalog is not None
    return machine.catalog


def test_every_truncation_is_refused(catalog: Path) -> None:
    data = catalog.read_bytes()
    for length in range(len(data)):
        catalog.write_bytes(data[:length])
        with pytest.raises(FormatError):
            CatalogReader(catalog)


def test_every_flipped_byte_is_refused(catalog: Path) -> None:
    data = catalog.read_bytes()
    for at in range(len(data)):
        catalog.write_bytes(data[:at] + bytes((data[at] ^ 0x41,)) + data[at + 1 :])
        with pytest.raises(FormatError):
            CatalogReader(catalog)


def test_trailing_bytes_are_refused(catalog: Path) -> None:
    catalog.write_bytes(catalog.read_bytes() + b"\0")
    with pytest.raises(FormatError):
        CatalogReader(catalog)


def test_an_unknown_version_is_named(catalog: Path) -> None:
    data = bytearray(catalog.read_bytes())
    data[7] = 9
    catalog.write_bytes(data)
    with pytest.raises(UnknownVersionError, match="version 9"):
        CatalogReader(catalog)


@pytest.mark.parametrize("damage", ["torn", "foreign", "gone", "empty"])
def test_a_run_notes_a_bad_catalog_and_reads_everything(
    source: Path, machine: Machine, catalog: Path, damage: str
) -> None:
    before = machine.run(".", cwd=source)  # an absolute path has the times of /tmp in its tree
    assert machine.catalog is not None
    if damage == "gone":
        machine.catalog.unlink()
    else:
        data = machine.catalog.read_bytes()
        machine.catalog.write_bytes({"torn": data[:-1], "foreign": b"x" * 500, "empty": b""}[damage])
    result = machine.run(".", cwd=source)
    assert result.root_tree == before.root_tree
    assert result.counts.files_new == 3
    assert not result.errors
    assert [note for note in machine.listener.notes if note.endswith("all files are read again")]


def test_a_writer_that_does_not_finish_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "catalog"
    with pytest.raises(ZeroDivisionError), CatalogWriter(path, Facts("form")) as writer:
        writer.add(record(b"a"))
        raise ZeroDivisionError
    assert not path.exists()


def test_catalogs_are_private(catalog: Path) -> None:
    assert catalog.stat().st_mode & 0o777 == 0o600


def unlike_records(folders: int, files: int) -> Iterator[bytes]:
    """Records of folders in which no two files have a name, a time, an inode or a content in common."""
    chance = random.Random(7)
    for folder in range(folders):
        names = sorted(chance.randbytes(chance.randint(4, 12)).hex().encode() for _ in range(files))
        yield make_record(
            key=b"home/%08d" % folder,
            names=names,
            stats=b"".join(unlike_stat(chance) for _ in names),
            tree=BlobId(chance.randbytes(32)),
            subtrees=b"",
            counts=[1] * files,
            content=chance.randbytes(32 * files),
            file_bytes=chance.getrandbits(30),
            dirty=False,
        )


def unlike_stat(chance: random.Random) -> bytes:
    owner, times = (0o100644, 1, 1000, 1000, 65024), (chance.getrandbits(30), chance.getrandbits(30))
    parts_of_s = chance.randrange(10**9), chance.randrange(10**9)
    return STAT_RECORD.pack(*owner, chance.getrandbits(28), 0, chance.getrandbits(20), *times, *parts_of_s)


def write_unlike(path: Path, folders: int, files: int) -> None:
    with CatalogWriter(path, Facts("form")) as writer:
        for raw in unlike_records(folders, files):
            writer.add(raw)
        writer.finish()


@pytest.mark.parametrize(("files", "limit"), [(10, 90), (3, 105)])
def test_a_file_takes_few_bytes_even_where_nothing_is_like_anything_else(
    tmp_path: Path, files: int, limit: int
) -> None:
    """32 of them are the ID of its content, 17 its times; 250 is what a million files may take."""
    folders = 20_000 // files
    write_unlike(tmp_path / "catalog", folders, files)
    assert (tmp_path / "catalog").stat().st_size < limit * folders * files


def test_reading_a_catalog_holds_a_few_blocks_however_long_it_is(tmp_path: Path) -> None:
    write_unlike(tmp_path / "catalog", 4000, 10)
    tracemalloc.start()
    try:
        with CatalogReader(tmp_path / "catalog") as catalog:
            found = sum(catalog.find(b"home/%08d" % folder) is not None for folder in range(4000))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == 4000
    assert peak < 6 << 20


def test_ids_in_records_survive(source: Path, machine: Machine) -> None:
    (source / "file").write_bytes(b"content")
    result = machine.run(".", cwd=source)
    assert machine.catalog is not None
    with CatalogReader(machine.catalog) as catalog:
        root = catalog.find(b"")
    assert root is not None
    assert root.tree == result.root_tree
    assert root.entries()[b"file"].ids == BlobId(blob_id(b"content"))
