"""Copying between repositories: what arrives, what is passed over, and what an interruption leaves."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.copying import CopyReport, copy_versions
from cdr_plugin.errors import RemoteError
from cdr_plugin.reporter import Reporter
from cdr_restic.local import LocalStorage
from cdr_restic.repository import ResticRepository
from cdr_restic.storage import FileKind
from tests.restic.world import FaultyStorage, Notes, Place, fail, make_place
from tests.support.changing import change, many_files
from tests.support.compare import assert_same_tree
from tests.support.direct import backup_into


@pytest.fixture
def source(tmp_path: Path) -> Place:
    (tmp_path / "source").mkdir()
    return make_place(tmp_path / "source", 1)


@pytest.fixture
def target(tmp_path: Path) -> Place:
    (tmp_path / "target").mkdir()
    return make_place(tmp_path / "target", 2)


def copied(source: Place, target: ResticRepository, reporter: Reporter | None = None) -> CopyReport:
    repository = source.repository()
    with repository.reading() as reader, target.writing() as session:
        return copy_versions(reader, session, repository.versions(), reporter or Notes())


def versions(place: Place) -> list[StoredVersion]:
    return list(place.repository().versions())


def some_versions(source: Place, folder: Path, count: int) -> None:
    """Of a changing folder, written by restic and by us in turn."""
    folder.mkdir()
    chance = random.Random(count)
    many_files(folder, chance, files=30)
    for number in range(count):
        if number % 2:
            source.restic("backup", "--host", "h", "--time", f"2024-03-{number + 1:02} 12:00:00", str(folder))
        else:
            backup_into(source.repository(), folder, time=f"2024-03-{number + 1:02}T12:00:00Z")
        change(folder, chance)


def test_all_versions_arrive_whole_and_a_second_copy_adds_nothing(
    source: Place, target: Place, tmp_path: Path
) -> None:
    some_versions(source, tmp_path / "files", 4)
    report = copied(source, target.repository())
    assert (len(report.copied), report.present, report.failed) == (4, 0, 0)
    target.check()
    inside = str(tmp_path / "files").lstrip("/")
    for old, new in report.copied.items():
        source.restic("restore", old, "--target", str(tmp_path / "old" / new))
        target.restic("restore", new, "--target", str(tmp_path / "new" / new))
        assert_same_tree(tmp_path / "old" / new / inside, tmp_path / "new" / new / inside)
    again = copied(source, target.repository())
    assert (again.copied, again.present, again.data_blobs, again.tree_blobs) == ({}, 4, 0, 0)


def test_restic_and_we_agree_on_what_is_copied_already(source: Place, target: Place, tmp_path: Path) -> None:
    some_versions(source, tmp_path / "files", 3)
    copied(source, target.repository())
    password = tmp_path / "password"
    password.write_text(source.password)
    options = ("--from-repo", str(source.folder), "--from-password-file", str(password))
    said = target.restic("copy", *options)
    assert len(versions(target)) == 3, said
    other = make_place(tmp_path / "other")
    other.restic("copy", *options)
    assert copied(source, other.repository()).present == 3
    ours, theirs = (sorted(v.snapshot.tree for v in versions(place)) for place in (target, other))
    assert ours == theirs


def test_a_version_that_is_damaged_is_left_out_and_the_others_arrive(
    source: Place, target: Place, tmp_path: Path
) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a").write_bytes(random.Random(1).randbytes(20_000))
    first = backup_into(source.repository(), folder, time="2024-03-01T12:00:00Z")
    before = set(LocalStorage(str(source.folder)).list(FileKind.DATA))
    (folder / "b").write_bytes(random.Random(2).randbytes(20_000))
    second = backup_into(source.repository(), folder, time="2024-03-02T12:00:00Z")
    (folder / "b").unlink()
    third = backup_into(source.repository(), folder, time="2024-03-03T12:00:00Z")
    new = [source.folder / "data" / name[:2] / name for name in LocalStorage(str(source.folder)).list(FileKind.DATA)]
    for path in new:
        if path.name not in before and path.stat().st_size > 20_000:
            path.unlink()
    heard = Errors()
    report = copied(source, target.repository(), heard)
    assert (set(report.copied), report.failed) == ({first, third}, 1)
    assert [line.split(":")[0] for line in heard.lines] == [f"version {second[:8]}"]
    target.check()


class Errors(Reporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def error(self, item: str, during: str, error: Exception | str) -> None:
        self.lines.append(f"{item}: {error}")


def test_a_copy_that_fails_anywhere_is_completed_by_the_next_one(tmp_path: Path, source: Place) -> None:
    some_versions(source, tmp_path / "files", 2)
    number = 0
    while True:
        number += 3
        (tmp_path / f"{number}").mkdir()
        target = make_place(tmp_path / f"{number}")
        storage = FaultyStorage(target.folder, number, "before", fail)
        try:
            copied(source, target.repository(storage))
        except RemoteError:
            pass
        if not storage.fired:
            break
        report = copied(source, target.repository())
        assert len(report.copied) + report.present == 2
        wanted = sorted(version.snapshot.tree for version in versions(source))
        assert sorted(version.snapshot.tree for version in versions(target)) == wanted
        if number % 12 == 0:
            target.check()
    assert number > 12
