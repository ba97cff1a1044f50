"""Versions of a changing tree, made by restic and CDR in turn, restored by both; and selections like restic's."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdr_plugin.model.blobs import BlobId
from cdr_plugin.reporter import Reporter
from cdr_plugin.restore import Overwrite, RestoreOptions, RestoreSummary, restore
from tests.restic.world import Place, made_by_restic
from tests.support.changing import change
from tests.support.compare import assert_same_tree
from tests.support.direct import backup_into

VERSIONS = 32


def _files(path: Path, source: random.Random) -> None:
    """Small files in folders of folders, and three of several blobs; less than ``many_files``, for 32 versions."""
    for number in range(60):
        folder = path / f"d{number % 7}" / f"e{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(source.randbytes(source.randrange(5000)))
    for number in range(3):
        (path / f"large{number}").write_bytes(source.randbytes(700_000 + 100_000 * number))


def _version(place: Place, number: int, target: Path, **options: object) -> RestoreSummary:
    repository = place.repository()
    tree = BlobId(bytes.fromhex(repository.versions()[number].snapshot.tree))
    with repository.reading() as reader:
        return restore(reader, tree, RestoreOptions(target=target, **options), Reporter())  # type: ignore[arg-type]


def test_every_version_of_either_program_comes_back_alike_from_both(tmp_path: Path) -> None:
    place, source = made_by_restic(tmp_path / "r"), tmp_path / "source"
    chance = random.Random(11)
    _files(source, chance)
    for number in range(VERSIONS):
        time = f"{2020 + number}-01-02"
        if number % 2:
            backup_into(place.repository(), source, time=f"{time}T03:04:05Z", host="h")
        else:
            place.restic("backup", "--quiet", "--host", "h", "--time", f"{time} 03:04:05", str(source))
        change(source, chance)
    ids = [str(found["id"]) for found in place.snapshots()]
    assert len(ids) == VERSIONS
    inside = str(source).lstrip("/")
    walked = tmp_path / "walked"
    for number, id_ in enumerate(ids):
        theirs, ours = tmp_path / f"restic{number}", tmp_path / f"cdr{number}"
        place.restic("restore", id_, "--quiet", "--target", str(theirs))
        summary = _version(place, number, ours)
        assert summary.errors == 0 and summary.files_restored == summary.total_files
        assert_same_tree(theirs / inside, ours / inside)
        # Over what the version before left: only what differs is written, and what is too much goes.
        again = _version(place, number, walked, overwrite=Overwrite.IF_CHANGED, delete=True, verify=True)
        assert again.errors == 0
        assert number == 0 or again.files_skipped > 30
        assert_same_tree(theirs / inside, walked / inside)
        for done in (theirs, ours):
            shutil.rmtree(done)


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One snapshot by restic of a small tree with names that patterns tell apart."""
    folder = tmp_path_factory.mktemp("named")
    place = made_by_restic(folder / "r")
    for name in ("a/b/c", "a/b/Cc", "a/bb/c.txt", "a/c/a/b", "b/a.txt", "b/c/[x]", "b/c/\\y", "c", "é/ü.txt"):
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    place.restic("backup", "--quiet", str(folder / "source"))
    return place


PARTS = st.sampled_from(
    ["a", "b", "c", "bb", "*", "**", "?", "c*", "*.txt", "[ab]", "[^a]", "C?", "\\[x\\]", "é", "source"]
)
PATTERNS = st.builds(
    lambda parts, anchored, base: f"{base if anchored else ''}{'/'.join(parts)}",
    st.lists(PARTS, min_size=1, max_size=3),
    st.booleans(),
    st.sampled_from(["/", "BASE/"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    patterns=st.lists(PATTERNS, min_size=1, max_size=3),
    kind=st.sampled_from(["include", "exclude", "iinclude", "iexclude"]),
)
def test_selections_choose_what_restics_do(
    named: Place, tmp_path_factory: pytest.TempPathFactory, patterns: list[str], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("selected")
    base = str(named.folder.parent.parent / "source")
    chosen = [pattern.replace("BASE", base) for pattern in patterns]
    options = [f"--{kind}={pattern}" for pattern in chosen]
    named.restic("restore", "latest", "--quiet", "--target", str(folder / "restic"), *options)
    field = kind if kind in ("include", "exclude") else f"{kind[1:]}_ignoring_case"
    _version(named, 0, folder / "cdr", **{field: chosen})
    assert _paths(folder / "cdr") == _paths(folder / "restic")
    shutil.rmtree(folder)


def _paths(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
