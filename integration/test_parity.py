"""One tree through ``cdr quickstart``: restic agrees with CDR about every byte, name and time of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.compare import Ignore, assert_same_tree
from tests.support.odd_tree import make_odd_tree

from .command import Repository, Shell
from .real_tree import make_real_tree
from .test_restore_parity import not_restored_by_restic_014

ZONE = "Asia/Kathmandu"
"""UTC+5:45. Its offsets have been whole minutes since 1920; RFC 3339, and so restic, has no others."""

REAL_FILES = 100_000
_VERSION_RECORD_BYTES = 4096
"""More than any sealed version record of one source has; it has about 1,100."""

_OPENED = re.compile(r'openat2?\((?P<at>.*?), ".*", (?P<flags>[^)]*)\) += \d+<(?P<path>.*)>$')


@pytest.fixture
def source(quiet_path: Path) -> Path:
    """Where a tree can be made that nothing else is beside, while its neighbour ``home`` changes."""
    (quiet_path / "quiet").mkdir()
    return quiet_path / "quiet" / "tree"


@dataclass(frozen=True)
class Demo:
    """A hierarchy that ``cdr quickstart`` made of ``source``, and its first version."""

    shell: Shell
    source: Path
    version: dict[str, str]

    @classmethod
    def of(cls, source: Path) -> Demo:
        shell = Shell(source.parent.parent / "home", {"TZ": ZONE})
        shell.folder.mkdir()
        return cls(shell, source, shell.json("quickstart", source, "--at", "demo"))

    @property
    def repository(self) -> Repository:
        return Repository(self.shell, Path(self.version["repository"]), Path(self.version["password_file"]))

    def restored_by_restic(self) -> Path:
        self.repository.restic("restore", "latest", "--target", "by-restic")
        return self.below("by-restic")

    def restored_by_cdr(self) -> Path:
        done = self.shell.json("restore", "latest", "--target", "by-cdr", "-c", self.version["config"])
        assert done["errors"] == 0
        assert done["files_restored"] == done["total_files"]
        return self.below("by-cdr")

    def below(self, target: str) -> Path:
        """Where a restore into ``target`` puts the source: under its whole path."""
        return self.shell.folder / target / self.source.relative_to("/")

    def assert_unopened(self) -> None:
        """The next backup opens folders alone, and spools nothing but its version record."""
        traces = self.shell.folder / "traces"
        traces.mkdir()
        strace = ("strace", "-ff", "--seccomp-bpf", "-y", "-e", "trace=open,openat,openat2", "-o", f"{traces}/of")
        traced = Shell(self.shell.folder, self.shell.variables, strace)
        made = traced.json("backup", "-c", self.version["config"])
        opened = list(_opened_below(self.source, traces))
        assert len(opened) > 0
        assert [line for line in opened if "O_DIRECTORY" not in line] == []
        assert made["tree"] == self.version["tree"]
        assert made["data_blobs"] == made["tree_blobs"] == made["data_added"] == 0
        assert made["files_new"] == made["files_changed"] == made["dirs_new"] == made["dirs_changed"] == 0
        assert made["spooled_bytes"] <= _VERSION_RECORD_BYTES
        sent = self.shell.json("send", "-T", "laptop", "-c", self.version["config"])
        assert (sent["segments_sent"], sent["bytes_sent"]) == (1, made["spooled_bytes"])

    def assert_restic_adds_nothing(self) -> None:
        """``restic backup`` of the same source, reading every file again, writes a snapshot and no pack."""
        packs = self.repository.packs()
        self.repository.restic("backup", "--force", self.source)
        ours, restics = self.repository.snapshots()
        assert restics["tree"] == ours["tree"] == self.version["tree"]
        assert restics["paths"] == ours["paths"] == [str(self.source)]
        assert self.repository.packs() == packs


def _opened_below(source: Path, traces: Path) -> Iterator[str]:
    """Lines of every successful opening of something at or below ``source``; a file of lines per thread."""
    for trace in traces.iterdir():
        for line in trace.read_text("utf-8", "surrogateescape").splitlines():
            found = _OPENED.search(line.rstrip())
            if found and (found["path"] + "/").startswith(f"{source}/"):
                yield line


def _assert_comes_back(demo: Demo, restic_loses: Ignore | None = None) -> None:
    demo.repository.check()
    assert_same_tree(demo.source, demo.restored_by_cdr())
    assert_same_tree(demo.source, demo.restored_by_restic(), restic_loses)


def test_every_kind_of_node_comes_back(source: Path) -> None:
    make_odd_tree(source)
    demo = Demo.of(source)
    _assert_comes_back(demo, _lost_by_restic_014)
    demo.assert_unopened()


def test_every_kind_of_node_has_the_tree_that_restic_makes(source: Path) -> None:
    make_odd_tree(source)
    for stored_otherwise_by_014 in ("raw", "attributed"):
        (source / "symlinks" / stored_otherwise_by_014).unlink()
    Demo.of(source).assert_restic_adds_nothing()


@pytest.mark.slow
def test_a_real_tree_of_over_100_000_files(source: Path) -> None:
    make_real_tree(source, REAL_FILES)
    demo = Demo.of(source)
    demo.assert_unopened()
    demo.assert_restic_adds_nothing()
    _assert_comes_back(demo)


def _lost_by_restic_014(path: bytes, field: str, facts: dict[str, object]) -> bool:
    """It restores the rest of these links: no attributes, and a target that it took for UTF-8."""
    lossy = os.path.basename(path) in (b"raw", b"attributed")
    return not_restored_by_restic_014(path, field, facts) or (lossy and field in ("xattrs", "target"))
