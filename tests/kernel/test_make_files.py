"""Batches of files to be made: whole under their final names with owner, mode and times, or not there at all."""

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.kernel import Step, reference
from tests.kernel.conftest import NOBODY, load
from tests.kernel.descriptors import open_descriptors

File = tuple[int, bytes, bytes, bytes, int, int, int, int, int, bool]
UID, GID = os.geteuid(), os.getegid()
TIME = 1_600_000_000_123_456_789
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def file(directory: int, name: bytes, content: bytes = b"content", mode: int = 0o640, **other: Any) -> File:
    fields = {"temporary": b"." + name[:200], "uid": UID, "gid": GID, "atime": TIME, "mtime": TIME + 1, "keep": False}
    f = {**fields, **other}
    return (directory, f["temporary"], name, content, mode, f["uid"], f["gid"], f["atime"], f["mtime"], f["keep"])


def state(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """All that is told of files by those who find them."""
    found: dict[bytes, tuple[object, ...]] = {}
    for name in os.listdir(os.fsencode(folder)):
        path = os.path.join(os.fsencode(folder), name)
        s = os.lstat(path)
        content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(s.st_mode) else b""
        found[name] = (content, oct(s.st_mode), s.st_uid, s.st_gid, s.st_atime_ns, s.st_mtime_ns, s.st_blocks)
    return found


contents = st.builds(
    lambda front, middle, behind: bytes(front) + middle + bytes(behind),
    st.sampled_from([0, 1, 4095, 4096, 9000]),
    st.binary(max_size=20),
    st.sampled_from([0, 1, 4095, 4096, 9000]),
)
names = st.sampled_from([b"a", b"b", b"\xff \n", b"existing", b"link", b"directory", b"n" * 255, b"n" * 256, b"", b"."])
owners = st.sampled_from([UID, NOBODY, 2**32 - 2])
times = st.one_of(st.integers(-(10**18), 4 * 10**18), st.sampled_from([0, -1, 1 - 10**9, -(10**9), 10**9]))
wishes = st.lists(
    st.tuples(names, contents, st.integers(0, 0o7777), owners, owners, times, times, st.booleans()), max_size=6
)


def make_in(kernel: ModuleType, files: Sequence[Any], sparse: bool, umask: int) -> tuple[object, object]:
    """What a kernel answers and leaves in a folder of its own, where something is already."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "directory").mkdir()
        (folder / "link").symlink_to("nowhere")
        (folder / "existing").write_bytes(b"old")
        for path in (folder / "directory", folder / "existing"):
            os.utime(path, ns=(TIME, TIME))
        os.utime(folder / "link", ns=(TIME, TIME), follow_symlinks=False)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        before = os.umask(umask)
        try:
            batch = [
                file(fd, name, content, mode, uid=uid, gid=gid, atime=atime, mtime=mtime, keep=keep)
                for name, content, mode, uid, gid, atime, mtime, keep in files
            ]
            return kernel.make_files(batch, sparse), state(folder)
        finally:
            os.umask(before)
            os.close(fd)


@AS_ROOT
@given(wishes, st.booleans(), st.sampled_from([0, 0o022, 0o077, 0o777]))
def test_c_equals_python(files: Sequence[Any], sparse: bool, umask: int) -> None:
    assert make_in(load("_kernel"), files, sparse, umask) == make_in(reference, files, sparse, umask)


def as_nobody(kernel: ModuleType, files: Sequence[Any]) -> object:
    """The modes and contents that an ordinary user's files get."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, NOBODY, -1)
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        os.seteuid(NOBODY)
        try:
            answer = kernel.make_files(
                [file(fd, b"%d" % at, b"x", mode, uid=uid, gid=gid) for at, (mode, uid, gid) in enumerate(files)], True
            )
        finally:
            os.seteuid(0)
            os.close(fd)
        return answer, {n: s[:4] for n, s in state(Path(name)).items()}


@AS_ROOT
@given(st.lists(st.tuples(st.integers(0, 0o7777), owners, owners), max_size=6))
def test_c_equals_python_for_ordinary_users(files: Sequence[tuple[int, int, int]]) -> None:
    found = as_nobody(load("_kernel"), files)
    assert found == as_nobody(reference, files)


@AS_ROOT
def test_who_may_not_set_the_owner_gets_no_setuid_and_no_complaint(kernel: ModuleType) -> None:
    answer, files = as_nobody(kernel, [(0o6755, 0, 0), (0o4755, NOBODY, os.getegid())])  # type: ignore[misc]
    assert answer == []
    assert [files[name][1] for name in (b"0", b"1")] == [oct(0o100755), oct(0o104755)]


def test_files_have_content_owner_mode_and_times(kernel: ModuleType, folder: int, tmp_path: Path) -> None:
    wanted = {b"hidden": 0o600, b"public": 0o644, b"closed": 0, b"read-only": 0o444, b"open": 0o666, b"setuid": 0o4755}
    assert kernel.make_files([file(folder, name, name * 9, mode) for name, mode in wanted.items()], True) == []
    for name, (content, mode, uid, gid, atime, mtime, _) in state(tmp_path).items():
        assert (mode, uid, gid, atime, mtime) == (oct(0o100000 | wanted[name]), UID, GID, TIME, TIME + 1)
        assert content == name * 9


def test_existing_files_are_replaced_unless_they_are_to_be_kept(
    kernel: ModuleType, folder: int, tmp_path: Path
) -> None:
    for name in ("replaced", "kept"):
        (tmp_path / name).write_bytes(b"old")
    batch = [file(folder, b"replaced"), file(folder, b"kept", keep=True), file(folder, b"free", keep=True)]
    assert kernel.make_files(batch, True) == [(1, Step.LOOK, errno.EEXIST)]
    assert {name: s[0] for name, s in state(tmp_path).items()} == {
        b"replaced": b"content",
        b"kept": b"old",
        b"free": b"content",
    }


def test_what_cannot_be_made_leaves_nothing_behind(kernel: ModuleType, folder: int, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "taken").symlink_to("elsewhere")
    batch = [
        file(folder, b"n" * 256),
        file(folder, b"folder"),
        file(folder, b"other", temporary=b"taken"),
        file(folder, b"n" * 256, keep=True),
        file(folder, b"long", temporary=b"t" * 256),
    ]
    assert kernel.make_files(batch, True) == [
        (0, Step.RENAME, errno.ENAMETOOLONG),
        (1, Step.RENAME, errno.EISDIR),
        (2, Step.CREATE, errno.EEXIST),
        (3, Step.LOOK, errno.ENAMETOOLONG),
        (4, Step.CREATE, errno.ENAMETOOLONG),
    ]
    assert sorted(os.listdir(tmp_path)) == ["folder", "taken"]


@AS_ROOT
def test_a_folder_that_may_not_be_written_to_costs_only_its_files(kernel: ModuleType, tmp_path: Path) -> None:
    for name in ("closed", "open"):
        (tmp_path / name).mkdir(mode=0o755)
    os.chown(tmp_path / "open", NOBODY, -1)
    closed, open_ = (os.open(tmp_path / name, os.O_RDONLY | os.O_DIRECTORY) for name in ("closed", "open"))
    os.seteuid(NOBODY)
    try:
        answer = kernel.make_files([file(closed, b"a"), file(open_, b"b")], True)
    finally:
        os.seteuid(0)
        os.close(closed)
        os.close(open_)
    assert answer == [(0, Step.CREATE, errno.EACCES)]
    assert (tmp_path / "open" / "b").read_bytes() == b"content"


@AS_ROOT
def test_a_full_disk_costs_the_files_that_do_not_fit(kernel: ModuleType, tmp_path: Path) -> None:
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no file system of our own here: {done.stderr}")
    try:
        fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
        batch = [file(fd, b"a", b"x" * 40_000), file(fd, b"b", b"x" * 40_000), file(fd, b"c", b"x" * 4000)]
        answer = kernel.make_files(batch, True)
        os.close(fd)
        assert answer == [(1, Step.WRITE, errno.ENOSPC)]
        assert {name: len(s[0]) for name, s in state(tmp_path).items()} == {b"a": 40_000, b"c": 4000}  # type: ignore[arg-type]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_zeros_at_the_ends_become_holes_only_where_they_are_wanted(
    kernel: ModuleType, folder: int, tmp_path: Path
) -> None:
    content = bytes(1 << 20) + b"x" + bytes(1 << 20)
    for name, sparse in ((b"holes", True), (b"full", False)):
        assert kernel.make_files([file(folder, name, content)], sparse) == []
    found = state(tmp_path)
    assert found[b"holes"][0] == found[b"full"][0] == content
    if shutil.disk_usage(tmp_path).total:
        assert found[b"holes"][-1] <= found[b"full"][-1]  # type: ignore[operator]


@pytest.mark.parametrize(
    ("at", "value", "error", "text"),
    [
        (0, -1, ValueError, "directory must be between 0 and 2147483647, not -1"),
        (1, b"a/b", ValueError, "name contains a slash"),
        (2, "name", TypeError, "name must be bytes, not str"),
        (2, b"a\0", ValueError, "name contains a null byte"),
        (3, "text", TypeError, "bytes-like"),
        (4, 0o10000, ValueError, "mode must be between 0 and 4095"),
        (5, 2**32 - 1, ValueError, "uid must be between"),
        (6, -1, ValueError, "gid must be between"),
        (7, 2**63, ValueError, "atime_ns must be between -9223372036854775808 and 9223372036854775807, not"),
        (8, -(2**63) - 1, ValueError, "mtime_ns must be between"),
    ],
)
def test_fields_that_make_no_sense_are_refused_before_anything_is_made(
    kernel: ModuleType, folder: int, tmp_path: Path, at: int, value: object, error: type[Exception], text: str
) -> None:
    wrong = list(file(folder, b"wrong"))
    wrong[at] = value
    with pytest.raises(error, match=text):
        kernel.make_files([file(folder, b"right"), tuple(wrong)], True)
    assert os.listdir(tmp_path) == []


def test_what_is_no_file_is_refused(kernel: ModuleType) -> None:
    for odd in ((1, 2), [0] * 10, None):
        with pytest.raises(TypeError, match="a file must be a tuple of 10 fields"):
            kernel.make_files([odd], True)


def test_no_descriptor_and_no_buffer_stays(kernel: ModuleType, folder: int) -> None:
    content = bytearray(b"content")
    before = open_descriptors()
    batch = [file(folder, name, memoryview(content)) for name in (b"a", b"n" * 256)]  # type: ignore[arg-type]
    kernel.make_files(batch, True)
    del batch
    content.append(0)
    assert open_descriptors() == before


def test_no_files_give_no_failures(kernel: ModuleType) -> None:
    assert kernel.make_files([], True) == []
