"""Sinks hear which content a new blob replaces, also where a file or folder was renamed or moved."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cdr_plugin.archiver import NewBlob
from cdr_plugin.archiver.origins import SMALLEST_MOVED, Origins
from cdr_plugin.model.blobs import BlobId, BlobType
from tests.archiver.judge import Machine, Shelf
from tests.archiver.test_next_runs import settle

SMALL = {"min_size": 4096, "max_size": 65536, "bits": 12}
BIG = 200_000
MIDDLE = SMALLEST_MOVED + 1000


class Hearing(Shelf):
    """Keeps what it hears: of each blob its offset and the IDs of the older content."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: dict[tuple[BlobType, BlobId], tuple[int, bytes]] = {}

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        super().add_many(type_, blobs)
        for id_, _, offset, origin in blobs:
            self.heard[type_, id_] = (offset, origin.ids if origin else b"")


@pytest.fixture(params=["streams", "batches"])
def machine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """One for which all files of the tests are long, one for which they are short."""
    sizes = SMALL if request.param == "streams" else {"min_size": 1 << 20, "max_size": 8 << 20, "bits": 20}
    made = Machine(tmp_path_factory.mktemp("machine"), **sizes)
    made.sink = Hearing()
    return made


def heard(machine: Machine) -> dict[tuple[BlobType, BlobId], tuple[int, bytes]]:
    assert isinstance(machine.sink, Hearing)
    return machine.sink.heard


def content(machine: Machine, before: set[tuple[BlobType, BlobId]]) -> list[tuple[int, bytes]]:
    """Offset and older content of the data blobs that came since, by offset."""
    return sorted(said for key, said in heard(machine).items() if key not in before and key[0] is BlobType.DATA)


def first_run(machine: Machine, source: Path, name: str, size: int = BIG) -> tuple[bytes, bytes]:
    """The bytes and the content IDs of a file."""
    data = os.urandom(size)
    path = source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    machine.run(source.name, cwd=source.parent)
    told = sorted((offset, id_) for (type_, id_), (offset, _) in heard(machine).items() if type_ is BlobType.DATA)
    assert not any(ids for _, ids in heard(machine).values())
    return data, b"".join(id_ for _, id_ in told)


def edit(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(10))


def in_place(source: Path) -> None:
    edit(source / "a" / "file")


def by_rename(source: Path) -> None:
    data = (source / "a" / "file").read_bytes()
    (source / "a" / "new").write_bytes(os.urandom(10) + data)
    (source / "a" / "new").replace(source / "a" / "file")


def renamed(source: Path) -> None:
    (source / "a" / "file").rename(source / "a" / "else")
    edit(source / "a" / "else")


def moved(source: Path) -> None:
    (source / "b").mkdir()
    (source / "a" / "file").rename(source / "b" / "else")
    edit(source / "b" / "else")


def folder_renamed(source: Path) -> None:
    (source / "a").rename(source / "b")
    edit(source / "b" / "file")


def folder_renamed_and_file_saved_by_rename(source: Path) -> None:
    by_rename(source)
    (source / "a").rename(source / "b")


def folder_moved_and_file_saved_by_rename(source: Path) -> None:
    by_rename(source)
    (source / "c").mkdir()
    (source / "a").rename(source / "c" / "d")


@pytest.mark.parametrize(
    "change",
    [
        in_place,
        by_rename,
        renamed,
        moved,
        folder_renamed,
        folder_renamed_and_file_saved_by_rename,
        folder_moved_and_file_saved_by_rename,
    ],
)
def test_the_older_content_of_a_changed_file_is_found(
    source: Path, machine: Machine, change: Callable[[Path], None]
) -> None:
    _, ids = first_run(machine, source, "a/file")
    before = set(heard(machine))
    change(source)
    machine.run(source.name, cwd=source.parent)
    told = content(machine, before)
    assert told and told[0] == (0, ids) and {old for _, old in told} == {ids}


def test_a_path_wins_over_an_inode(source: Path, machine: Machine) -> None:
    _, ids = first_run(machine, source, "a/file")
    (source / "a" / "other").write_bytes(os.urandom(BIG))
    machine.run(source.name, cwd=source.parent)
    before = set(heard(machine))
    (source / "a" / "other").replace(source / "a" / "file")
    edit(source / "a" / "file")
    machine.run(source.name, cwd=source.parent)
    assert {old for _, old in content(machine, before)} == {ids}


def test_a_small_file_is_not_looked_for_and_what_is_unchanged_neither(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.archiver.origins._Moved._open", None)  # calling it fails
    monkeypatch.setattr("cdr_plugin.archiver.origins._Moved.close", lambda _moved: None)
    first_run(machine, source, "a/file", MIDDLE)
    before = set(heard(machine))
    machine.sink = Shelf()  # asks for no origins, as a sink does that knows all blobs
    (source / "a").rename(source / "b")
    settle(source)
    machine.run(source.name, cwd=source.parent)
    machine.sink = hearing = Hearing()
    (source / "small").write_bytes(os.urandom(SMALLEST_MOVED - 1))
    machine.run(source.name, cwd=source.parent)
    assert len(before) and {old for (type_, _), (_, old) in hearing.heard.items() if type_ is BlobType.DATA} == {b""}


def test_offsets_tell_where_a_blob_is_in_its_file(source: Path, machine: Machine) -> None:
    data, _ = first_run(machine, source, "file")
    for (type_, id_), (offset, _) in heard(machine).items():
        if type_ is BlobType.DATA:
            blob = machine.sink.blobs[type_, id_]
            assert data[offset : offset + len(blob)] == blob


def test_a_tree_replaces_that_of_the_same_or_the_renamed_folder(source: Path, machine: Machine) -> None:
    for number in range(400):  # a tree of more than SMALLEST_MOVED bytes
        path = source / "a" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    machine.run(source.name, cwd=source.parent)
    trees = {id_ for type_, id_ in heard(machine) if type_ is BlobType.TREE}
    before = set(heard(machine))
    (source / "a" / "7").write_bytes(b"x")
    machine.run(source.name, cwd=source.parent)
    replaced = {old for key, (_, old) in heard(machine).items() if key not in before}
    assert replaced - {b""} == trees
    blobs = machine.sink.blobs
    (changed,) = [key[1] for key, (_, old) in heard(machine).items() if old and len(blobs[key]) > SMALLEST_MOVED]
    before = set(heard(machine))
    (source / "a").rename(source / "b")
    (source / "b" / "8").write_bytes(b"x")
    machine.run(source.name, cwd=source.parent)
    assert changed in {old for key, (_, old) in heard(machine).items() if key not in before}


def test_a_catalog_that_vanishes_costs_only_the_bases(source: Path, machine: Machine, tmp_path: Path) -> None:
    first_run(machine, source, "a/file")
    before = set(heard(machine))
    real, catalog = Origins.file, machine.catalog
    assert catalog is not None
    renamed(source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Origins, "file", lambda *given: catalog.unlink(missing_ok=True) or real(*given))
        machine.run(source.name, cwd=source.parent)
    assert {old for _, old in content(machine, before)} == {b""}
