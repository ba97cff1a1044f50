"""What CDR restores equals the source, and what restic restores, for every kind of node."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.reporter import Reporter
from cdr_plugin.restore import Overwrite, RestoreOptions, RestoreSummary, restore
from cdr_restic.plugin import ResticFormat
from tests.support.compare import Facts, assert_same_tree, tree_differences
from tests.support.odd_tree import make_odd_tree

_YEAR_2262_NS = 1 << 63


class Repository:
    """A restic repository made by restic, and both ways to restore its newest snapshot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._environment = {**os.environ, "RESTIC_REPOSITORY": str(path), "RESTIC_PASSWORD": "pw"}
        self.restic("init")

    def restic(self, *arguments: str, cwd: Path | None = None) -> None:
        command = ["restic", "--quiet", "--no-cache", *arguments]
        subprocess.run(command, env=self._environment, check=True, capture_output=True, cwd=cwd)

    def backup(self, source: Path) -> None:
        self.restic("backup", source.name, cwd=source.parent)

    def restore_with_restic(self, target: Path) -> None:
        self.restic("restore", "latest", "--target", str(target))

    def restore_with_cdr(self, target: Path, overwrite: Overwrite = Overwrite.NEVER) -> RestoreSummary:
        repository = ResticFormat().open(str(self._path), RepositoryOptions(password=lambda: "pw"))
        root = BlobId(bytes.fromhex(repository.versions()[-1].snapshot.tree))
        with repository.reading() as reader:
            return restore(reader, root, RestoreOptions(target=target, overwrite=overwrite), Reporter())


def lost_by_restic_014(path: bytes, field: str, facts: Facts) -> bool:
    """restic 0.14 does not *store* attributes of symbolic links and link targets that are not UTF-8."""
    if field == "xattrs":
        return facts["type"] == "l"
    target = facts.get("target")
    return field == "target" and isinstance(target, bytes) and not _is_utf8(target)


def not_restored_by_restic_014(path: bytes, field: str, facts: Facts) -> bool:
    """Hard links of devices and symbolic links, and times that overflow 64 bits of nanoseconds."""
    mtime_ns = facts["mtime_ns"]
    assert isinstance(mtime_ns, int)
    if field == "links":
        return facts["type"] in ("l", "b", "c")
    return field == "mtime_ns" and mtime_ns >= _YEAR_2262_NS


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_every_kind_of_node_comes_back_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_odd_tree(source)
    repository = Repository(tmp_path / "repository")
    repository.backup(source)
    summary = repository.restore_with_cdr(tmp_path / "cdr")
    assert summary.errors == 0 and summary.files_restored == summary.total_files
    assert_same_tree(source, tmp_path / "cdr/source", lost_by_restic_014)
    repository.restore_with_restic(tmp_path / "restic")
    differences = tree_differences(tmp_path / "cdr", tmp_path / "restic", not_restored_by_restic_014)
    # The parent of both restores is nobody's: it was not in the backup.
    assert [line for line in differences if not line.startswith("b'.'")] == []


@pytest.mark.parametrize("overwrite", [Overwrite.ALWAYS, Overwrite.IF_CHANGED])
def test_restoring_again_over_a_damaged_restore_mends_it(tmp_path: Path, overwrite: Overwrite) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    make_odd_tree(source)
    repository = Repository(tmp_path / "repository")
    repository.backup(source)
    repository.restore_with_cdr(target)
    made = target / "source"
    (made / "contents/one").write_bytes(b"2")
    (made / "contents/several-blobs").write_bytes(b"short")
    (made / "hard-links/full-b").unlink()
    (made / "special/fifo").unlink()
    (made / "modes/f0644").chmod(0o777)
    os.setxattr(made / "attributes/folder", "user.unwanted", b"x")
    summary = repository.restore_with_cdr(target, overwrite)
    assert summary.errors == 0
    assert_same_tree(source, made, lost_by_restic_014)


def make_small_files(source: Path, count: int) -> None:
    chance = random.Random(1)
    for number in range(count // 100):
        folder = source / f"{number // 25}" / f"{number}"
        folder.mkdir(parents=True)
        for name in range(100):
            (folder / f"{name}").write_bytes(chance.randbytes(chance.randrange(100, 8000)))


def make_big_files(source: Path, size_bytes: int) -> None:
    source.mkdir()
    chance = random.Random(2)
    for number in range(4):
        with (source / f"{number}").open("wb") as file:
            for _ in range(size_bytes // 4 // (1 << 20)):
                file.write(chance.randbytes(1 << 20))


def elapsed_s(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "big"])
def test_the_speed_of_restoring_is_measured(
    tmp_path: Path, kind: str, record_property: Callable[[str, object], None]
) -> None:
    """Reports the ratio to restic on the same repository; asserts only that the trees are equal."""
    source = tmp_path / "source"
    if kind == "small":
        make_small_files(source, 50_000)
    else:
        make_big_files(source, 1 << 30)
    repository = Repository(tmp_path / "repository")
    repository.backup(source)
    for turn in range(2):
        # New targets each time: ext4 avoids inodes that were deleted a moment ago, at great cost.
        restic_s = elapsed_s(lambda: repository.restore_with_restic(tmp_path / f"restic{turn}"))  # noqa: B023
        cdr_s = elapsed_s(lambda: repository.restore_with_cdr(tmp_path / f"cdr{turn}"))  # noqa: B023
        record_property(f"{kind}-{turn}", {"restic_s": restic_s, "cdr_s": cdr_s, "ratio": restic_s / cdr_s})
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"{kind}: restic {restic_s:.1f} s, cdr {cdr_s:.1f} s, {restic_s / cdr_s:.2f} times, peak {peak_mib} MiB")
    assert_same_tree(source, tmp_path / "cdr0/source")
