"""Batches of small files: contents or the reason why not, never blocking, never past the limit."""

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import pytest

from cdr_plugin.kernel import STAT_RECORD, StatRecord, reference
from tests.kernel.descriptors import open_descriptors

LIMIT = 1000
PROCESS = b"/proc/%d" % os.getpid()


def write(folder: Path, sizes: dict[bytes, int]) -> dict[bytes, bytes]:
    contents = {name: random.Random(size).randbytes(size) for name, size in sizes.items()}
    for name, content in contents.items():
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(content)
    return contents


def make_odd_kinds(folder: Path) -> list[bytes]:
    (folder / "link").symlink_to("file")
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "fifo")
    (folder / "directory").mkdir()
    return [b"link", b"dangling", b"fifo", b"directory", b"vanished", b"n" * 256]


def test_contents_come_with_the_stat_of_the_opened_file(kernel: ModuleType, tmp_path: Path) -> None:
    contents = write(tmp_path, {b"one": 1, b"\xff \n": 17, b"empty": 0, b"thousand": LIMIT})
    results = kernel.read_files(os.fsencode(tmp_path), list(contents), LIMIT)
    assert [content for content, _ in results] == list(contents.values())
    for name, (_, record) in zip(contents, results, strict=True):
        st = os.lstat(os.path.join(os.fsencode(tmp_path), name))
        fields = StatRecord._make(STAT_RECORD.unpack(record))
        assert (fields.ino, fields.size, fields.mode) == (st.st_ino, st.st_size, st.st_mode)
        assert fields.mtime_s * 10**9 + fields.mtime_ns == st.st_mtime_ns


def test_larger_files_give_one_byte_more_than_the_limit(kernel: ModuleType, tmp_path: Path) -> None:
    contents = write(tmp_path, {b"just": LIMIT + 1, b"more": LIMIT + 2, b"much": 50 * LIMIT})
    results = kernel.read_files(os.fsencode(tmp_path), list(contents), LIMIT)
    assert [content for content, _ in results] == [whole[: LIMIT + 1] for whole in contents.values()]


def test_what_is_no_regular_file_gives_an_errno(kernel: ModuleType, tmp_path: Path) -> None:
    write(tmp_path, {b"file": 5})
    results = kernel.read_files(os.fsencode(tmp_path), make_odd_kinds(tmp_path), LIMIT)
    assert [content for content, _ in results] == [
        errno.ELOOP,
        errno.ELOOP,
        errno.ESTALE,
        errno.ESTALE,
        errno.ENOENT,
        errno.ENAMETOOLONG,
    ]
    assert [len(record) for _, record in results] == [0, 0, 72, 72, 0, 0]


def test_c_equals_python(compiled: ModuleType, tmp_path: Path) -> None:
    sizes = {b"%d" % n: n * n % 3001 for n in range(200)}
    names = [*write(tmp_path, sizes), b"file", *make_odd_kinds(tmp_path), b"1", b"1", b"", b".", b".."]
    for limit in (0, 1, LIMIT, 5 << 20):
        found = compiled.read_files(os.fsencode(tmp_path), names, limit)
        assert found == reference.read_files(os.fsencode(tmp_path), names, limit)


def test_batches_larger_than_the_arena_are_complete(compiled: ModuleType, tmp_path: Path) -> None:
    """The arena of C holds 1 MiB, or the limit."""
    sizes = {b"%d" % n: n * 4099 % 500_000 for n in range(40)} | {b"large": 1 << 20, b"exact": (1 << 20) - 1}
    contents = write(tmp_path, sizes)
    for limit in (400_000, (1 << 20) - 1, 1 << 20, 3 << 20):
        results = compiled.read_files(os.fsencode(tmp_path), list(contents), limit)
        assert [content for content, _ in results] == [c[: limit + 1] for c in contents.values()]


@pytest.mark.parametrize("limit", [0, 10, 4096, 1 << 20])
def test_files_whose_size_is_reported_as_0_are_read(kernel: ModuleType, limit: int) -> None:
    with open("/proc/self/status", "rb") as file:
        name = file.readline().rstrip()
    for _ in range(2):
        [(content, record)] = kernel.read_files(PROCESS, [b"status"], limit)
        assert content[: len(name)] == name[: limit + 1]
        assert len(content) == limit + 1 if limit < 100 else content.endswith(b"\n")
        assert StatRecord._make(STAT_RECORD.unpack(record)).size == 0


def test_full_arena_does_not_lose_files_whose_size_is_reported_as_0(compiled: ModuleType) -> None:
    results = compiled.read_files(PROCESS, [b"status"] * 2000, 700_000)
    assert {content[:5] for content, _ in results} == {b"Name:"}
    assert all(content.endswith(b"\n") for content, _ in results)


def test_unreadable_files_give_an_errno(kernel: ModuleType, users_folder: Path) -> None:
    write(users_folder, {b"closed": 5})
    (users_folder / "closed").chmod(0)
    assert kernel.read_files(os.fsencode(users_folder), [b"closed"], LIMIT) == [(errno.EACCES, b"")]


def test_files_of_others_are_read_though_o_noatime_is_refused(kernel: ModuleType, roots_file: Path) -> None:
    [(content, _)] = kernel.read_files(os.fsencode(roots_file.parent), [os.fsencode(roots_file.name)], LIMIT)
    assert content == b"by all"


def test_directory_that_cannot_be_opened_raises(kernel: ModuleType, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "absent")
    with pytest.raises(FileNotFoundError) as caught:
        kernel.read_files(path, [b"a"], LIMIT)
    assert caught.value.filename == path


def test_names_and_limits_that_make_no_sense_are_refused(kernel: ModuleType, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    with pytest.raises(ValueError, match="name contains a slash: b'a/b'"):
        kernel.read_files(folder, [b"a/b"], LIMIT)
    with pytest.raises(ValueError, match="name contains a null byte"):
        kernel.read_files(folder, [b"a\0"], LIMIT)
    with pytest.raises(TypeError, match="name must be bytes, not str"):
        kernel.read_files(folder, ["a"], LIMIT)
    for limit in (-1, 1 << 31):
        with pytest.raises(ValueError, match=f"limit must be between 0 and 2147483647, not {limit}"):
            kernel.read_files(folder, [b"a"], limit)


def test_no_names_give_no_results(kernel: ModuleType, tmp_path: Path) -> None:
    assert kernel.read_files(os.fsencode(tmp_path), [], LIMIT) == []


def test_several_threads_read_at_once(kernel: ModuleType, tmp_path: Path) -> None:
    contents = write(tmp_path, {b"%d" % n: n * 37 for n in range(300)})

    def read(_: int) -> list[bytes | int]:
        return [content for content, _ in kernel.read_files(os.fsencode(tmp_path), list(contents), 1 << 20)]

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(read, range(12))) == [list(contents.values())] * 12


def test_reads_leave_no_descriptor_open(kernel: ModuleType, tmp_path: Path) -> None:
    names = [*write(tmp_path, {b"file": 5, b"large": 5000}), *make_odd_kinds(tmp_path)]
    before = open_descriptors()
    for _ in range(3):
        kernel.read_files(os.fsencode(tmp_path), names, LIMIT)
    assert open_descriptors() == before
