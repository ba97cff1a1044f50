"""Files of a version are found again where its targets were, however those were typed."""

from __future__ import annotations

import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdr_plugin.archiver import ArchiveOptions
from cdr_plugin.archiver.mapped import Mapped
from cdr_plugin.client.places import Places

UTC = ZoneInfo("UTC")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for name in ("docs/a/one", "docs/two", "other/docs/three"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def found(home: Path, folder: str, name: str, *paths: str | Path, cwd: Path | None = None) -> list[str]:
    places = Places.of(ArchiveOptions(paths=list(paths), zone=UTC, cwd=cwd or home))
    again = Places.from_bytes(places.to_bytes())
    return [os.path.normpath(os.fsdecode(path)) for path in again.find(folder.encode(), name.encode())]


def test_absolute_targets(home: Path) -> None:
    below = str(home).lstrip("/")
    assert found(home, f"{below}/docs/a", "one", home / "docs") == [str(home / "docs/a/one")]
    assert found(home, f"{below}/docs", "two", home / "docs/two") == [str(home / "docs/two")]
    assert found(home, f"{below}/other", "x", home / "docs") == []


def test_relative_targets_start_from_the_folder_of_then(home: Path) -> None:
    assert found(home, "docs/a", "one", "docs") == [str(home / "docs/a/one")]
    assert found(home, "docs/a", "one", ".") == [str(home / "docs/a/one")]
    assert found(home, "docs/a", "one", "../docs", cwd=home / "other") == [str(home / "docs/a/one")]


def test_targets_of_one_name(home: Path) -> None:
    targets = ("docs", "../docs")
    assert found(home, "docs", "three", *targets, cwd=home / "other") == [str(home / "other/docs/three")]
    assert found(home, "docs-1", "two", *targets, cwd=home / "other") == [str(home / "docs/two")]


def test_what_was_mapped_is_looked_for_there_and_where_it_is_known(home: Path) -> None:
    mapped = [Mapped(os.fsencode(home / "snapshot"), os.fsencode(home / "docs"), 7)]
    places = Places.of(ArchiveOptions(paths=[home / "docs"], zone=UTC, mapped=mapped))
    again = Places.from_bytes(places.to_bytes())
    wanted = [os.fsencode(home / "snapshot/a/one"), os.fsencode(home / "docs/a/one")]
    assert again.find(os.fsencode(home / "docs/a")[1:], b"one") == wanted


def test_of_a_version_that_another_machine_made_paths_start_at_the_root() -> None:
    assert Places.from_bytes(b"").find(b"home/x", b"y") == [b"/home/x/y"]
