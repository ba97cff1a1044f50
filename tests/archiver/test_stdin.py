"""A stream becomes one file, in the tree that ``restic backup --stdin`` writes."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cdr_plugin.archiver import ArchiveOptions, archive
from cdr_plugin.archiver.stream import Stream
from cdr_plugin.errors import NotConvenientError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import decode_canonical_tree
from tests.archiver.judge import ChunkerSplitter, Listener, Machine, Restic, Shelf

TIME = "2021-03-04 05:06:07"
TIME_NS = int(datetime(2021, 3, 4, 5, 6, 7, tzinfo=UTC).timestamp()) * 10**9


@contextmanager
def piped(data: bytes) -> Iterator[int]:
    """A descriptor that gives ``data`` in pieces of any size."""
    read, write = os.pipe()

    def feed() -> None:
        with os.fdopen(write, "wb", buffering=0) as pipe:
            at, sizes = 0, random.Random(len(data))
            while at < len(data):
                at += pipe.write(data[at : at + sizes.randrange(1, 200_000)])

    feeder = threading.Thread(target=feed)
    feeder.start()
    yield read
    os.close(read)
    feeder.join()


@pytest.mark.parametrize("size", [1, 600_000, 5 << 20])
def test_the_tree_of_a_stream_is_that_of_restic(restic: Restic, judged: Machine, size: int) -> None:
    data = random.Random(size).randbytes(size)
    with piped(data) as descriptor:
        result = judged.run(stream=Stream("stdin", descriptor, TIME_NS))
    expected = restic.backup("--stdin", "--time", TIME, stdin=data)
    assert result.root_tree.hex() == expected["tree"]
    assert result.paths == expected["paths"] == ["/stdin"]
    assert (result.counts.files_new, result.counts.total_bytes_processed) == (1, size)


def test_folders_in_the_name_are_made(judged: Machine) -> None:
    with piped(b"hello\n") as descriptor:
        result = judged.run(stream=Stream("a/../b//c.sql", descriptor, TIME_NS))
    assert result.paths == ["/b/c.sql"]
    (folder,) = decode_canonical_tree(judged.sink.blobs[BlobType.TREE, result.root_tree])
    assert (folder.name, folder.type, folder.mode & 0o7777, folder.inode) == ("b", "dir", 0o755, 0)
    (file,) = decode_canonical_tree(judged.sink.blobs[BlobType.TREE, BlobId(bytes.fromhex(folder.subtree))])
    assert (file.name, file.size, file.user, file.mtime) == ("c.sql", 6, "", "2021-03-04T05:06:07Z")


@pytest.mark.parametrize("name", ["", ".", "/", "a/.."])
def test_a_name_of_no_file_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="cannot be the name of a file"):
        Stream(name, 0, TIME_NS)


def test_no_data_makes_no_version(machine: Machine) -> None:
    with piped(b"") as descriptor, pytest.raises(UserError, match="no data came"):
        machine.run(stream=Stream("stdin", descriptor, TIME_NS))


def test_what_is_not_the_whole_makes_no_version(machine: Machine) -> None:
    def finish() -> None:
        raise UserError("the command failed")

    with piped(b"half") as descriptor, pytest.raises(UserError, match="the command failed"):
        machine.run(stream=Stream("stdin", descriptor, TIME_NS, finish))
    assert not list(machine.folder.glob("catalog-*"))


def test_new_content_is_read_although_name_and_time_are_the_same(machine: Machine) -> None:
    """With --time nothing tells one stream from the next."""
    roots = set()
    for data in (b"one", b"two"):
        with piped(data) as descriptor:
            roots.add(machine.run(stream=Stream("stdin", descriptor, TIME_NS)).root_tree)
    assert len(roots) == 2


def test_the_sink_hears_of_the_older_content(machine: Machine) -> None:
    """So that a delta can be made against it."""
    old = random.Random(1).randbytes(3 << 20)
    with piped(old) as descriptor:
        machine.run(stream=Stream("db/dump", descriptor, TIME_NS))
    kept = {id_ for type_, id_ in machine.sink.blobs if type_ is BlobType.DATA}
    heard: list[bytes] = []

    class Listening(Shelf):
        def add_many(self, type_, blobs):  # type: ignore[no-untyped-def]
            heard.extend(origin.ids for _, _, _, origin in blobs if type_ is BlobType.DATA and origin is not None)
            super().add_many(type_, blobs)

    machine.sink = Listening()
    with piped(old[:100] + b"changed" + old[100:]) as descriptor:
        machine.run(stream=Stream("db/dump", descriptor, TIME_NS + 1))
    assert heard
    assert {ids[at : at + 32] for ids in heard for at in range(0, len(ids), 32)} == kept


def test_a_stream_is_never_read_by_a_second_run(machine: Machine) -> None:
    """It would take the rest of the bytes for all of them."""
    with piped(b"x" * 10) as descriptor:
        stream = Stream("stdin", descriptor, TIME_NS)
        machine.run(stream=stream)
        with pytest.raises(NotConvenientError, match="cannot be read twice"):
            machine.run(stream=stream)


def test_a_failing_sink_ends_the_run_while_the_pipe_is_silent(tmp_path: Path) -> None:
    class Full(Shelf):
        def add_many(self, type_, blobs):  # type: ignore[no-untyped-def]
            raise UserError("full")

    read, write = os.pipe()
    with os.fdopen(write, "wb", buffering=0) as pipe, os.fdopen(read, "rb") as end:
        threading.Thread(target=pipe.write, args=(bytes(range(256)) * 4000,), daemon=True).start()
        options = ArchiveOptions(stream=Stream("stdin", end.fileno(), TIME_NS), zone=UTC)
        with pytest.raises(UserError, match="full"):
            archive(
                options,
                Full(),
                splitter=lambda: ChunkerSplitter(0x3DA3358B4DC173, 4096, 65536, 13),
                old_catalog=None,
                new_catalog=tmp_path / "catalog",
                reporter=Listener(),
            )
