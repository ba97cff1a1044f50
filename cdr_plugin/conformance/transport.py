"""What every transport must do. Subclass in a test module, say how to open an empty storage::

    from cdr_plugin.conformance.transport import TransportConformance

    class TestMine(TransportConformance):
        def open_storage(self, folder):
            return MyPlugin().open(f"mine:{folder}", {}, create=True)
"""

from __future__ import annotations

import random
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from cdr_plugin.contracts import Ability, ObjectInfo, Transport
from cdr_plugin.errors import NotFoundError, RemoteError

T = TypeVar("T")

_MIB = 1024 * 1024
BAD_NAMES = (
    "",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "../a",
    "a/../b",
    "a/./b",
    ".hidden",
    "a/.hidden",
    "a b",
    "a\nb",
    "a\0b",
    "a\\b",
    "ä",
    "a" * 256,
    "/".join(["a"] * 33),
    "/".join(["a" * 200] * 6),
)


class TransportConformance:
    """The contract of ``cdr_plugin.contracts.Transport``, as tests."""

    @abstractmethod
    def open_storage(self, folder: Path) -> Transport:
        """The storage that belongs to ``folder`` (a new, empty, private one); opened again with the
        same ``folder`` it is the same storage."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Iterator[Transport]:
        with self.open_storage(tmp_path / "storage") as transport:
            yield transport

    def test_an_object_comes_back_as_it_was_put(self, storage: Transport) -> None:
        for name, data in (("a", b"one"), ("b/c.d/e-f_g", bytes(range(256)) * 5000), ("empty", b"")):
            storage.put(name, data)
            assert storage.get(name) == data
            assert storage.stat(name) == ObjectInfo(name, len(data))

    def test_an_object_has_another_stamp_once_it_was_replaced_and_not_before(self, storage: Transport) -> None:
        storage.put("a/b", b"one")
        before = [storage.stat("a/b").stamp, *(info.stamp for info in storage.list("a"))]
        assert before[0] == before[1] == storage.stat("a/b").stamp
        storage.put("a/b", b"two", overwrite=True)
        after = [storage.stat("a/b").stamp, *(info.stamp for info in storage.list("a"))]
        assert after[0] == after[1] and (after != before or after == ["", ""])

    def test_any_bytes_like_object_can_be_put(self, storage: Transport) -> None:
        storage.put("array", bytearray(b"12345"))
        storage.put("view", memoryview(b"0123456789")[2:5])
        assert (storage.get("array"), storage.get("view")) == (b"12345", b"234")

    def test_ranges_are_exact_and_end_with_the_object(self, storage: Transport) -> None:
        storage.put("a", b"0123456789")
        assert storage.get("a", 3) == b"3456789"
        assert storage.get("a", 3, 4) == b"3456"
        assert storage.get("a", 8, 100) == b"89"
        assert storage.get("a", 0, 0) == b""
        assert storage.get("a", 10) == b""
        assert storage.get("a", 11, 5) == b""

    def test_the_longest_legal_names_work(self, storage: Transport) -> None:
        longest = "/".join(["a" * 31] * 32)
        assert len(longest) == 1023
        for name in (longest, "b" * 255, "-c", "_", "d..e"):
            storage.put(name, b"x")
            assert storage.get(name) == b"x"

    @pytest.mark.parametrize("name", BAD_NAMES)
    def test_bad_names_are_refused_everywhere(self, storage: Transport, tmp_path: Path, name: str) -> None:
        (tmp_path / "file").write_bytes(b"x")
        with pytest.raises(RemoteError):
            storage.put(name, b"x")
        with pytest.raises(RemoteError):
            storage.put_file(name, tmp_path / "file")
        with pytest.raises(RemoteError):
            storage.get(name)
        with pytest.raises(RemoteError):
            storage.stat(name)
        with pytest.raises(RemoteError):
            storage.delete(name)

    def test_putting_the_same_bytes_again_is_no_error(self, storage: Transport, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"same")
        for _ in range(2):
            storage.put("a", b"same")
            storage.put_file("a", tmp_path / "file")
        assert storage.get("a") == b"same"

    def test_other_bytes_do_not_replace_an_object(self, storage: Transport, tmp_path: Path) -> None:
        storage.put("a", b"first")
        (tmp_path / "file").write_bytes(b"third")
        with pytest.raises(RemoteError, match="a"):
            storage.put("a", b"other")
        with pytest.raises(RemoteError, match="a"):
            storage.put("a", b"a longer one")
        with pytest.raises(RemoteError, match="a"):
            storage.put_file("a", tmp_path / "file")
        assert storage.get("a") == b"first"

    def test_overwrite_replaces_whole_objects(self, storage: Transport) -> None:
        storage.put("new", b"1", overwrite=True)
        storage.put("new", b"22", overwrite=True)
        storage.put("new", b"3", overwrite=True)
        assert storage.get("new") == b"3"

    def test_readers_never_see_a_part_of_an_object(self, storage: Transport) -> None:
        versions = [bytes([number]) * 200_000 for number in range(8)]
        storage.put("a", versions[0])
        done = threading.Event()
        seen: list[bytes] = []

        def read() -> None:
            while not done.is_set():
                seen.append(storage.get("a"))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            for _ in range(5):
                for version in versions:
                    storage.put("a", version, overwrite=True)
        finally:
            done.set()
            reader.join()
        assert set(seen) <= set(versions)

    def test_one_of_several_simultaneous_puts_wins(self, storage: Transport) -> None:
        contents = [bytes([number]) * 1000 for number in range(4)]
        winners: list[bytes] = []

        def put(data: bytes) -> None:
            try:
                storage.put("deep/er/a", data)
            except RemoteError:
                return
            winners.append(data)

        _in_threads(put, contents)
        assert [storage.get("deep/er/a")] == winners

    def test_put_and_delete_in_one_folder_do_not_disturb_each_other(self, storage: Transport) -> None:
        def work(name: str) -> None:
            for _ in range(30):
                storage.put(f"shared/folder/{name}", name.encode())
                assert storage.get(f"shared/folder/{name}") == name.encode()
                storage.delete(f"shared/folder/{name}")

        failures = _in_threads(work, ["a", "b", "c"])
        assert failures == []
        assert list(storage.list()) == []

    def test_files_go_in_and_out(self, storage: Transport, tmp_path: Path) -> None:
        for size in (0, 1, 3_000_001):
            source, target = tmp_path / f"in{size}", tmp_path / f"out{size}"
            source.write_bytes(b"\x5a" * size)
            storage.put_file(f"f/{size}", source)
            storage.get_file(f"f/{size}", target)
            assert target.read_bytes() == storage.get(f"f/{size}") == source.read_bytes()

    def test_a_put_that_is_cut_at_any_mebibyte_is_finished_by_the_next(
        self, storage: Transport, tmp_path: Path
    ) -> None:
        size = 3 * _MIB + 1
        (tmp_path / "file").write_bytes(random.Random(1).randbytes(size))
        for cut in range(_MIB, size + 1, _MIB):
            name = f"f/{cut}"
            first, second = _Wire(cut), _Wire()
            if _is_cut(storage, name, tmp_path / "file", first):
                assert_absent(storage, name)
            there = storage.put_file(name, tmp_path / "file", second)
            assert there == (first.moved if Ability.RESUME in storage.abilities else 0)
            assert second.moved in (size - there, 0)  # 0: a link moves nothing
            assert storage.get(name) == (tmp_path / "file").read_bytes()
        assert {found.size for found in storage.list()} == {size}

    def test_a_put_that_is_cut_again_and_again_gets_done(self, storage: Transport, tmp_path: Path) -> None:
        if Ability.RESUME not in storage.abilities:
            pytest.skip("this transport cannot resume, and says so")
        size = 4 * _MIB + 5
        (tmp_path / "file").write_bytes(random.Random(2).randbytes(size))
        before = 0
        while _is_cut(storage, "a", tmp_path / "file", wire := _Wire(_MIB)):
            assert_absent(storage, "a")
            assert _MIB <= wire.moved <= 2 * _MIB
            before += wire.moved
            assert before <= size
        assert storage.get("a") == (tmp_path / "file").read_bytes()

    def test_bytes_are_told_at_least_every_mebibyte(self, storage: Transport, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(bytes(3 * _MIB + 1))
        there, back = _Wire(), _Wire()
        storage.put_file("a", tmp_path / "file", there)
        storage.get_file("a", tmp_path / "copy", back)
        for wire in (there, back):
            assert wire.moved in (3 * _MIB + 1, 0)
            assert wire.largest <= _MIB or Ability.RESUME not in storage.abilities

    def test_what_another_put_left_of_other_bytes_is_not_used(self, storage: Transport, tmp_path: Path) -> None:
        for number, left in enumerate((bytes(2 * _MIB), b"\1" * 2 * _MIB, bytes(_MIB) + b"\1" * _MIB)):
            (tmp_path / "left").write_bytes(left)
            (tmp_path / "file").write_bytes(bytes(_MIB + 7))
            _is_cut(storage, f"a{number}", tmp_path / "left", _Wire(2 * _MIB))
            storage.delete(f"a{number}")  # where it was not cut
            storage.put_file(f"a{number}", tmp_path / "file")
            assert storage.get(f"a{number}") == bytes(_MIB + 7)

    def test_removing_the_source_leaves_the_object(self, storage: Transport, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"bytes")
        storage.put_file("a", tmp_path / "source")
        (tmp_path / "source").unlink()
        assert storage.get("a") == b"bytes"

    def test_deleting_the_object_leaves_its_copy(self, storage: Transport, tmp_path: Path) -> None:
        storage.put("a", b"bytes")
        storage.get_file("a", tmp_path / "copy")
        storage.delete("a")
        assert (tmp_path / "copy").read_bytes() == b"bytes"

    def test_what_does_not_exist_is_not_found(self, storage: Transport, tmp_path: Path) -> None:
        storage.put("there", b"x")
        for name in ("a", "no/such/folder", "there/below"):
            with pytest.raises(NotFoundError, match=name):
                storage.get(name)
            with pytest.raises(NotFoundError, match=name):
                storage.stat(name)
            with pytest.raises(NotFoundError, match=name):
                storage.get_file(name, tmp_path / "target")
            assert not (tmp_path / "target").exists()

    def test_a_folder_is_no_object(self, storage: Transport) -> None:
        storage.put("folder/a", b"x")
        with pytest.raises(NotFoundError):
            storage.get("folder")
        with pytest.raises(NotFoundError):
            storage.stat("folder")
        storage.delete("folder")
        assert storage.get("folder/a") == b"x"

    def test_list_names_the_whole_subtree_with_sizes(self, storage: Transport) -> None:
        sizes = {"a": 1, "b/c": 2, "b/d/e": 3, "bb/c": 4}
        for name, size in sizes.items():
            storage.put(name, b"x" * size)
        assert {found.name: found.size for found in storage.list()} == sizes
        assert {found.name for found in storage.list("b")} == {"b/c", "b/d/e"}
        assert {found.name for found in storage.list("b/d")} == {"b/d/e"}
        assert list(storage.list("nothing/here")) == []
        assert list(storage.list("a")) == []

    def test_list_refuses_bad_folders(self, storage: Transport) -> None:
        for folder in ("..", "a/../..", "/", "a/"):
            with pytest.raises(RemoteError):
                list(storage.list(folder))

    def test_objects_may_be_deleted_while_they_are_listed(self, storage: Transport) -> None:
        for number in range(50):
            storage.put(f"f{number % 5}/{number}", b"x")
        for found in storage.list():
            storage.delete(found.name)
        assert list(storage.list()) == []

    def test_delete_is_idempotent(self, storage: Transport) -> None:
        storage.put("f/a", b"x")
        storage.put("f/b", b"y")
        for _ in range(2):
            storage.delete("f/a")
            storage.delete("f/never/there")
        assert [found.name for found in storage.list()] == ["f/b"]
        storage.put("f/a", b"again")
        assert storage.get("f/a") == b"again"

    def test_another_opening_sees_the_same_objects(self, storage: Transport, tmp_path: Path) -> None:
        storage.put("a/b", b"x")
        with self.open_storage(tmp_path / "storage") as other:
            assert other.get("a/b") == b"x"
            other.delete("a/b")
        with pytest.raises(NotFoundError):
            storage.get("a/b")

    def test_free_space_is_told_if_and_only_if_declared(self, storage: Transport) -> None:
        free = storage.free_space()
        assert (free is not None) == bool(Ability.FREE_SPACE & storage.abilities)
        assert free is None or free >= 0

    def test_close_is_idempotent(self, storage: Transport) -> None:
        storage.close()
        storage.close()


def assert_absent(storage: Transport, name: str) -> None:
    """Nobody sees anything of the object."""
    for look in (storage.get, storage.stat):
        with pytest.raises(NotFoundError):
            look(name)
    assert name not in {found.name for found in storage.list()}


class _Cut(Exception):
    """The connection broke."""


class _Wire:
    """Counts the bytes that travel, and breaks when at least ``cut`` have."""

    def __init__(self, cut: int | None = None) -> None:
        self.moved = self.largest = 0
        self._cut = cut

    def __call__(self, count: int) -> None:
        self.moved += count
        self.largest = max(self.largest, count)
        if self._cut is not None and self.moved >= self._cut:
            raise _Cut


def _is_cut(storage: Transport, name: str, path: Path, wire: _Wire) -> bool:
    try:
        storage.put_file(name, path, wire)
    except _Cut:
        return True
    return False


def _in_threads(work: Callable[[T], None], arguments: Sequence[T]) -> list[BaseException]:
    """Run ``work`` of each at once; what was raised."""
    failures: list[BaseException] = []
    start = threading.Barrier(len(arguments))

    def run(argument: T) -> None:
        start.wait()
        try:
            work(argument)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(argument,)) for argument in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures
