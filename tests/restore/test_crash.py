"""A restore that is killed at any operation leaves no half file under a final name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cdr_plugin.kernel import reference
from cdr_plugin.reporter import Reporter
from cdr_plugin.restore import Overwrite, RestoreOptions, restore, whole_files
from tests.restore.memory_reader import MemoryReader, node
from tests.support.compare import assert_same_tree

_CHANGING = (
    "open", "pwrite", "mkdir", "rename", "link", "symlink", "mknod", "chown", "fchown", "fchmod", "chmod", "utime",
)  # fmt: skip
_KILLED = 77


def _exit_at(number: int) -> None:
    """From now on the process ends itself just before its ``number``-th changing call."""
    calls = iter(range(1, 1 << 30))

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            if next(calls) == number:
                os._exit(_KILLED)
            return real(*args, **options)

        return call

    for name in _CHANGING:
        setattr(os, name, counted(getattr(os, name)))


def _restore_in_child(reader: MemoryReader, options: RestoreOptions, root: bytes, number: int) -> bool:
    """Whether the restore was killed at that call; False: it finished before."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _exit_at(number)
            status = restore(reader, root, options, Reporter()).errors  # type: ignore[arg-type]
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, _KILLED)
    return status == _KILLED


def test_killed_at_every_operation_leaves_whole_files_only_and_can_be_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Its calls are those of the compiled kernel, and can be counted.
    monkeypatch.setattr(whole_files, "make_files", reference.make_files)
    reader = MemoryReader()
    group = {"links": 2, "inode": 5, "device_id": 6}
    root = reader.tree(
        reader.folder("d", reader.file("big", b"0123456789" * 3000), reader.file("one", b"1"), reader.file("zero")),
        reader.file("l1", b"linked", **group),
        reader.file("l2", b"linked", **group),
        node("fifo", "fifo", mode=0o600),
        node("link", "symlink", linktarget="d/big", mode=0o777),
    )
    whole = tmp_path / "whole"
    restore(reader, root, RestoreOptions(target=whole), Reporter())
    number = 1
    while True:
        target = tmp_path / f"killed-{number}"
        killed = _restore_in_child(reader, RestoreOptions(target=target), root, number)
        for path in target.rglob("*"):
            if path.is_file() and not path.is_symlink() and not path.name.startswith(".cdr-restore-"):
                assert path.read_bytes() == (whole / path.relative_to(target)).read_bytes(), f"killed at {number}"
        restore(reader, root, RestoreOptions(target=target, overwrite=Overwrite.IF_CHANGED), Reporter())
        assert not list(target.rglob(".cdr-restore-*")), "the second run swept what the first one left"
        for folder in (whole, target):
            os.utime(folder, ns=(0, 0))
            os.utime(folder / "d", ns=(0, 0))
        assert_same_tree(whole, target)
        if not killed:
            break
        number += 1
    assert number > 35
