"""Files that cannot be read, change or vanish are reported by name and do not stop the run."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin import kernel
from cdr_plugin.archiver import ArchiveResult, NewBlob, reading
from cdr_plugin.errors import RemoteError, StorageFullError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, decode_tree
from tests.archiver.judge import Machine

BIG = 700_000


def nodes(machine: Machine, result: ArchiveResult) -> dict[str, Node]:
    """The nodes of the only target, by name."""
    (target,) = decode_tree(machine.sink.blobs[BlobType.TREE, result.root_tree])
    subtree = BlobId(bytes.fromhex(target.subtree))
    return {node.name: node for node in decode_tree(machine.sink.blobs[BlobType.TREE, subtree])}


def before_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let ``act`` happen once, after the scan and before any file is opened."""
    real_read, real_open = kernel.read_files, reading._open
    once = [act]

    def read_files(directory: bytes, names: Any, limit: int) -> Any:
        if once:
            once.pop()()
        return real_read(directory, names, limit)

    def open_(path: bytes) -> int:
        if once:
            once.pop()()
        return real_open(path)

    monkeypatch.setattr(kernel, "read_files", read_files)
    monkeypatch.setattr(reading, "_open", open_)


def while_reading(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Let ``act`` happen once, in the middle of reading a big file."""
    real = os.readv
    calls = []

    def readv(descriptor: int, buffers: Any) -> int:
        calls.append(descriptor)
        if len(calls) == 1:
            count = real(descriptor, [buffers[0][:1000]])
            act()
            return count
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)


@pytest.mark.parametrize("size", [10, BIG])
def test_a_file_that_vanishes_is_reported(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    (source / "gone").write_bytes(bytes(size))
    (source / "stays").write_bytes(b"x")
    before_reading(monkeypatch, (source / "gone").unlink)
    result = machine.run("source", cwd=source.parent)
    assert list(nodes(machine, result)) == ["stays"]
    assert machine.listener.errors == {str(source / "gone"): "vanished before it could be read"}
    assert result.incomplete
    assert not machine.run("source", cwd=source.parent).errors


@pytest.mark.parametrize("size", [10, BIG])
@pytest.mark.parametrize("kind", ["fifo", "symlink"])
def test_a_file_that_becomes_something_else_is_reported(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, size: int, kind: str
) -> None:
    path = source / "file"
    path.write_bytes(bytes(size))
    (source / "stays").write_bytes(b"x")

    def replace() -> None:
        path.unlink()
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.symlink_to("stays")

    before_reading(monkeypatch, replace)
    result = machine.run("source", cwd=source.parent)
    assert list(nodes(machine, result)) == ["stays"]
    assert machine.listener.errors == {str(path): "is no longer a regular file"}


@pytest.mark.parametrize("before", [10, BIG])
@pytest.mark.parametrize("after", [0, 20, BIG + 5])
def test_a_file_that_changed_since_the_scan_is_stored_as_it_is(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    path = source / "file"
    path.write_bytes(bytes(before))
    before_reading(monkeypatch, lambda: path.write_bytes(b"y" * after))
    result = machine.run("source", cwd=source.parent)
    assert nodes(machine, result)["file"].size == after
    assert not result.errors
    machine.forget()
    assert machine.run("source", cwd=source.parent).root_tree == result.root_tree


@pytest.mark.parametrize("change", ["grow", "shrink", "rewrite"])
def test_a_file_that_changes_while_it_is_read_is_stored_as_read_and_read_again(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    path = source / "file"
    path.write_bytes(b"a" * BIG)

    def act() -> None:
        with path.open("r+b") as file:
            if change == "shrink":
                file.truncate(BIG // 2)
            else:
                file.seek(BIG if change == "grow" else 0)
                file.write(b"b" * 500)

    while_reading(monkeypatch, act)
    result = machine.run("source", cwd=source.parent)
    node = nodes(machine, result)["file"]
    stored = b"".join(machine.sink.blobs[BlobType.DATA, BlobId(bytes.fromhex(id_))] for id_ in node.content or ())
    assert node.size == len(stored) == {"grow": BIG + 500, "shrink": BIG // 2, "rewrite": BIG}[change]
    assert machine.listener.errors == {str(path): reading.CHANGED}
    again = machine.run("source", cwd=source.parent)
    assert not again.errors
    machine.forget()
    assert machine.run("source", cwd=source.parent).root_tree == again.root_tree


def test_a_file_that_grows_forever_ends(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_GROWTH", 4 << 20)
    path = source / "log"
    path.write_bytes(bytes(BIG))
    real = os.readv

    def readv(descriptor: int, buffers: Any) -> int:
        with path.open("ab") as file:
            file.write(bytes(2 << 20))
        return real(descriptor, buffers)

    monkeypatch.setattr(os, "readv", readv)
    result = machine.run("source", cwd=source.parent)
    assert nodes(machine, result)["log"].size <= BIG + (6 << 20)
    assert machine.listener.errors == {str(path): reading.CHANGED}


def test_a_file_that_cannot_be_read_is_left_out_and_tried_again(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bad", "good"):
        (source / name).write_text(name)
    real = kernel.read_files

    def read_files(directory: bytes, names: Sequence[bytes], limit: int) -> Any:
        return [(errno.EIO, b"") if name == b"bad" else real(directory, [name], limit)[0] for name in names]

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "read_files", read_files)
        for _ in range(2):
            result = machine.run("source", cwd=source.parent)
            assert list(nodes(machine, result)) == ["good"]
            assert machine.listener.errors == {str(source / "bad"): "Input/output error"}
    assert list(nodes(machine, machine.run("source", cwd=source.parent))) == ["bad", "good"]


def test_a_read_error_in_a_big_file_leaves_it_out(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "bad").write_bytes(bytes(BIG))
    (source / "good").write_text("x")

    def fail(descriptor: int, buffers: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "readv", fail)
    result = machine.run("source", cwd=source.parent)
    assert list(nodes(machine, result)) == ["good"]
    assert machine.listener.errors == {str(source / "bad"): "Input/output error"}


def as_nobody(action: Callable[[], None]) -> None:
    """Run ``action`` in a child process that has no privileges."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            action()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_folders_without_permission(source: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for folder, mode in (("no-list", 0o311), ("no-enter", 0o744), ("fine", 0o755)):
        (source / folder).mkdir()
        (source / folder / "file").write_text("x")
        (source / folder).chmod(mode)
    (source / "secret").write_text("x")
    (source / "secret").chmod(0o600)
    state = tmp_path_factory.mktemp("state")
    state.chmod(0o777)
    for above in (source, *source.parents, *state.parents):
        if above.stat().st_mode & 0o055 != 0o055:
            above.chmod(0o755)

    def archive_as_nobody() -> None:
        machine = Machine(state)
        result = machine.run("source", cwd=source.parent)
        found = nodes(machine, result)
        assert list(found) == ["fine", "no-enter"]
        assert machine.listener.errors == {
            str(source / "no-enter" / "file"): "Permission denied",
            str(source / "no-list"): "Permission denied",
            str(source / "secret"): "Permission denied",
        }
        assert result.errors == 3

    as_nobody(archive_as_nobody)


def test_a_folder_that_vanishes_is_reported(
    source: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "folder").mkdir()
    (source / "stays").write_text("x")
    real = kernel.scan_directory

    def scan_directory(path: bytes) -> Any:
        if path.endswith(b"/folder"):
            (source / "folder").rmdir()
        return real(path)

    monkeypatch.setattr(kernel, "scan_directory", scan_directory)
    result = machine.run(source)
    assert machine.listener.errors == {str(source / "folder"): "No such file or directory"}
    assert result.counts.total_files_processed == 1


def test_a_path_that_is_too_long_is_reported(source: Path, machine: Machine) -> None:
    """The kernel takes paths of 4095 bytes."""
    descriptor = os.open(source, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=descriptor)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    result = machine.run("source", cwd=source.parent)
    assert list(machine.listener.errors.values()) == ["File name too long"]
    assert result.errors == 1
    assert result.counts.dirs_new > 10


def test_sockets_are_not_stored_and_not_reported(source: Path, machine: Machine) -> None:
    (source / "file").write_text("x")
    with socket.socket(socket.AF_UNIX) as listening:
        os.chdir(source)
        listening.bind("socket")
        result = machine.run("source", cwd=source.parent)
    assert list(nodes(machine, result)) == ["file"]
    assert not result.errors


def test_without_any_target_there_is_nothing_to_do(source: Path, machine: Machine) -> None:
    with pytest.raises(UserError, match="none of the paths"):
        machine.run(source / "a", source / "b")
    assert len(machine.listener.errors) == 2
    with pytest.raises(UserError, match="empty path"):
        machine.run("")


def test_files_whose_size_lies_are_stored_whole(machine: Machine) -> None:
    size = len(Path("/proc/version").read_bytes())
    for target in ("version", "sys/kernel/random"):
        result = machine.run(target, cwd="/proc")
        assert result.counts.total_bytes_processed >= (size if target == "version" else 37)
        assert not machine.listener.errors


class Full:
    """A sink that runs full after some blobs."""

    def __init__(self, after: int, type_: BlobType) -> None:
        self._left = after
        self._type = type_
        self._lock = threading.Lock()

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        with self._lock:
            self._left -= len(blobs) if type_ is self._type else 0
            if self._left < 0:
                raise StorageFullError("the spool is full")


@pytest.mark.parametrize("type_", list(BlobType))
@pytest.mark.parametrize("after", [0, 300])
@pytest.mark.parametrize("size", [10, BIG])
def test_the_sinks_error_ends_the_run_and_leaves_no_catalog(
    source: Path, machine: Machine, type_: BlobType, after: int, size: int
) -> None:
    folders = 400 if size == 10 else 3
    for number in range(folders):
        (source / str(number)).mkdir()
        (source / str(number) / "file").write_bytes(number.to_bytes(2) * size)
    if after and size == BIG:
        after = 1
    machine.sink = Full(after, type_)  # type: ignore[assignment]
    with pytest.raises(StorageFullError, match="the spool is full"):
        machine.run(source)
    assert not list(machine.folder.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("cdr-")]


def test_a_catalog_that_cannot_be_written_is_one_clear_error(source: Path, machine: Machine) -> None:
    (source / "file").write_text("x")
    machine.folder = machine.folder / "missing"
    with pytest.raises(RemoteError, match="catalog-1: No such file or directory"):
        machine.run(source)
