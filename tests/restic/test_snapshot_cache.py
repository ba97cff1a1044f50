"""Snapshots that are remembered between processes: what is listed counts, and only what is new is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cdr_plugin.errors import IntegrityError
from cdr_plugin.model.versions import Snapshot
from cdr_restic.snapshot_cache import SnapshotCache
from tests.restic.world import Place, make_place, some_blobs, write_version


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two versions, remembered by a pass."""
    made = make_place(tmp_path)
    with made.repository().writing() as session:
        for seed in (1, 2):
            write_version(session, some_blobs(3, seed))
    listed(made)
    return made


def listed(place: Place) -> set[str]:
    """Snapshots as a pass of another process has them."""
    with place.repository().writing() as session:
        return {version.id for version in session.versions}


def files(place: Place) -> set[str]:
    return {path.name for path in (place.folder / "snapshots").iterdir()}


def remembered(place: Place) -> Path:
    (path,) = place.state.glob("*.snapshots")
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Snapshots whose files are read."""
    found: list[str] = []
    from cdr_restic import repository

    load = repository._load_snapshot

    def counted(files: object, name: str) -> Snapshot:
        found.append(name)
        return load(files, name)  # type: ignore[arg-type]

    monkeypatch.setattr(repository, "_load_snapshot", counted)
    return found


def test_a_pass_reads_the_snapshots_that_none_before_has_read(place: Place, read: list[str]) -> None:
    before = files(place)
    assert listed(place) == before and read == []
    place.restic("tag", "--add", "other", min(before))
    (new,) = files(place) - before
    assert listed(place) == files(place) and read == [new]
    assert listed(place) == files(place) and read == [new]


def test_remembered_snapshots_are_what_their_files_say_oldest_first(place: Place) -> None:
    with place.repository().writing() as session:
        found = list(session.versions)
    assert found == list(place.repository().versions())


def test_what_restic_forgot_is_gone(place: Place) -> None:
    gone = min(files(place))
    place.restic("forget", gone)
    assert listed(place) == files(place) and gone not in listed(place)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:9] + bytes([data[9] ^ 1]) + data[10:],
        lambda data: b"another program" + data,
    ],
)
def test_what_cannot_be_read_is_read_in_the_repository(
    place: Place, read: list[str], spoil: Callable[[bytes], bytes]
) -> None:
    path = remembered(place)
    path.write_bytes(spoil(path.read_bytes()))
    assert listed(place) == files(place) == set(read)
    read.clear()
    assert listed(place) == files(place) and read == []


def test_nothing_is_read_that_another_key_has_sealed(place: Place, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_place(tmp_path / "other")
    id_ = place.repository().id
    cache = SnapshotCache(place.state, id_, place.key)
    assert cache.load().keys() == files(place)
    assert SnapshotCache(place.state, id_, other.key).load() == {}


def test_who_cares_for_the_repository_reads_each_file(place: Place) -> None:
    """A pass goes on beside a snapshot that is damaged; a check names it."""
    path = place.folder / "snapshots" / min(files(place))
    path.chmod(0o600)
    path.write_bytes(b"damaged" + path.read_bytes())
    assert listed(place) == files(place)
    with pytest.raises(IntegrityError, match=path.name[:10]), place.repository().exclusive():
        pass
