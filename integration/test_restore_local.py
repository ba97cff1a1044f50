"""A client restores from what it has itself: exactly, or it names the files that it cannot get."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from cdr_plugin.client.local_reader import LocalReader
from cdr_plugin.errors import NotFoundError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.restore import RestoreOptions, RestoreSummary, restore
from integration.command import Shell
from tests.support.chain import Recorder
from tests.support.changing import change, many_files
from tests.support.compare import tree_facts
from tests.support.hierarchy import Hierarchy


@pytest.fixture
def world(tmp_path: Path) -> Hierarchy:
    source = tmp_path / "source"
    source.mkdir()
    many_files(source, random.Random(3), files=60)
    return Hierarchy.make(tmp_path / "base", source, methods=("delta", "zstd"))


def local(world: Hierarchy, number: int, target: Path) -> tuple[RestoreSummary, list[str]]:
    """Restore a version without any repository; what could not be had."""
    client, recorder = world.client(), Recorder()
    row = client.state.version(number)
    assert row is not None
    with LocalReader(client) as reader:
        summary = restore(reader, BlobId(row.tree), RestoreOptions(target=target), recorder)
    client.state.close()
    return summary, recorder.errors


def test_versions_that_wait_are_restored_from_the_spool_alone(tmp_path: Path, world: Hierarchy) -> None:
    facts = []
    for seed in range(4):
        world.backup()
        facts.append(tree_facts(world.source))
        change(world.source, random.Random(seed))
    shutil.rmtree(world.source)
    shutil.rmtree(world.chain().repository)
    for number, expected in enumerate(facts, 1):
        summary, errors = local(world, number, tmp_path / str(number))
        assert not errors and not summary.errors
        assert tree_facts(tmp_path / str(number) / "source") == expected


@pytest.mark.parametrize("keeps_copy", [False, True])
def test_what_has_left_the_spool_comes_from_copies_or_from_the_source(
    tmp_path: Path, world: Hierarchy, keeps_copy: bool
) -> None:
    world.keeps_copy = keeps_copy
    world.backup()
    world.deliver()
    expected = tree_facts(world.source)
    summary, errors = local(world, 1, tmp_path / "same")
    assert not errors and tree_facts(tmp_path / "same" / "source") == expected

    gone = {"large1", "f7"}
    (world.source / "large1").write_bytes(b"other bytes")
    next(world.source.rglob("f7")).unlink()
    summary, errors = local(world, 1, tmp_path / "changed")
    if keeps_copy:
        assert not errors and tree_facts(tmp_path / "changed" / "source") == expected
    else:
        assert summary.errors == len(gone)
        assert {error.split(": ")[0].rpartition("/")[2] for error in errors} == gone
        restored = {path.name for path in (tmp_path / "changed").rglob("*") if path.is_file()}
        assert restored == {path.name for path in (tmp_path / "same").rglob("*") if path.is_file()} - gone


def test_without_its_trees_a_version_cannot_be_had_and_that_is_said(tmp_path: Path, world: Hierarchy) -> None:
    world.backup()
    world.deliver()
    shutil.rmtree(world.chain().client().state_folder / "baseline")
    with pytest.raises(NotFoundError, match=r"tree blob .* is not on this machine any more; restore from the repo"):
        local(world, 1, tmp_path / "out")


def test_the_command_restores_without_a_repository(shell: Shell) -> None:
    folder = shell.folder / "files"
    folder.mkdir()
    (folder / "a").write_bytes(b"first")
    (folder / "sub").mkdir()
    (folder / "sub" / "b").write_bytes(random.Random(1).randbytes(100_000))
    repository = Path(shell.json("quickstart", "files", "--at", "demo")["repository"])
    (folder / "a").write_bytes(b"second")
    config = ("-c", "demo/cdr.toml")
    shell.cdr("backup", *config)
    repository.rename(shell.folder / "away")
    shell.cdr("restore", "latest", "--local", "--target", "out", *config)
    assert next((shell.folder / "out").rglob("a")).read_bytes() == b"second"
    shell.cdr("restore", f"2:{folder}/sub", "--local", "--target", "part", *config)
    assert [path.name for path in (shell.folder / "part").iterdir()] == ["b"]
