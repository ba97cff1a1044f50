"""Directory scans: every name once, in order, with what lstat says of it."""

import errno
import os
import socket
import stat
from pathlib import Path
from types import ModuleType

import pytest

from cdr_plugin.kernel import STAT_RECORD, StatRecord, reference
from tests.kernel.descriptors import open_descriptors

ODD_NAMES = [
    b" ",
    b"-rf",
    b"...",
    b"..a",
    b".hidden",
    b"a",
    b"A",
    b"a\nb",
    b"a.b",
    b"a b",
    b"\xff\xfe",
    b"\x01",
    "ü".encode(),
    "u\u0308".encode(),
    b"n" * 255,
]


def fill(folder: bytes) -> None:
    """One node of every kind that an ordinary user can make, times before 1970 included."""
    for number, name in enumerate(ODD_NAMES):
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(bytes(number))
        os.utime(path, ns=(number, number * 987_654_321_123 - 3_000_000_000_001))
    os.mkdir(os.path.join(folder, b"directory"))
    os.symlink(b"nowhere", os.path.join(folder, b"dangling"))
    os.symlink(b"a", os.path.join(folder, b"link"))
    os.link(os.path.join(folder, b"a"), os.path.join(folder, b"hard"))
    os.mkfifo(os.path.join(folder, b"fifo"))
    here = os.getcwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket")
    finally:
        os.chdir(here)
    with open(os.path.join(folder, b"sparse"), "wb") as file:
        file.truncate(5 << 32)


def records(data: bytes) -> list[StatRecord]:
    return [StatRecord._make(fields) for fields in STAT_RECORD.iter_unpack(data)]


def expected_record(path: bytes) -> StatRecord:
    st = os.lstat(path)
    return StatRecord(
        mode=st.st_mode,
        nlink=st.st_nlink,
        uid=st.st_uid,
        gid=st.st_gid,
        dev=st.st_dev,
        ino=st.st_ino,
        rdev=st.st_rdev,
        size=st.st_size,
        mtime_s=st.st_mtime_ns // 10**9,
        ctime_s=st.st_ctime_ns // 10**9,
        mtime_ns=st.st_mtime_ns % 10**9,
        ctime_ns=st.st_ctime_ns % 10**9,
    )


def test_odd_names_and_kinds_are_listed_in_byte_order_as_lstat_sees_them(
    kernel: ModuleType, tmp_path: Path
) -> None:
    folder = os.fsencode(tmp_path)
    fill(folder)
    names, data = kernel.scan_directory(folder)
    assert names == sorted(os.listdir(folder))
    assert set(ODD_NAMES) < set(names)
    assert records(data) == [expected_record(os.path.join(folder, name)) for name in names]


def test_c_equals_python(compiled: ModuleType, tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path)
    fill(folder)
    assert compiled.scan_directory(folder) == reference.scan_directory(folder)


@pytest.mark.parametrize("folder", [b"/dev", b"/usr/bin"])
def test_c_equals_python_on_system_folders(compiled: ModuleType, folder: bytes) -> None:
    if not os.path.isdir(folder):
        pytest.skip("no such folder here")
    names, data = compiled.scan_directory(folder)
    wanted, wanted_data = reference.scan_directory(folder)
    assert names == wanted
    stable = [(r.mode, r.dev, r.rdev, r.ino) for r in records(data)]
    assert stable == [(r.mode, r.dev, r.rdev, r.ino) for r in records(wanted_data)]


def test_empty_directory_has_no_names(kernel: ModuleType, tmp_path: Path) -> None:
    assert kernel.scan_directory(os.fsencode(tmp_path)) == ([], b"")


def test_large_directory_is_complete(kernel: ModuleType, tmp_path: Path) -> None:
    wanted = sorted(b"%d-%s" % (n, b"x" * (n % 200)) for n in range(3000))
    for name in wanted:
        os.close(os.open(os.path.join(os.fsencode(tmp_path), name), os.O_CREAT | os.O_WRONLY))
    names, data = kernel.scan_directory(os.fsencode(tmp_path))
    assert names == wanted
    assert len(data) == 3000 * STAT_RECORD.size


def test_symbolic_link_to_a_directory_is_not_followed(kernel: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there")
    with pytest.raises(OSError) as caught:
        kernel.scan_directory(os.fsencode(tmp_path / "link"))
    assert caught.value.errno in (errno.ENOTDIR, errno.ELOOP)


def test_failure_names_the_directory(kernel: ModuleType, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "absent")
    with pytest.raises(FileNotFoundError) as caught:
        kernel.scan_directory(path)
    assert caught.value.filename == path
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        kernel.scan_directory(os.fsencode(tmp_path / "file"))


def test_paths_that_are_not_file_names_are_refused(kernel: ModuleType) -> None:
    with pytest.raises(ValueError, match="path contains a null byte"):
        kernel.scan_directory(b"/tmp\0/x")
    with pytest.raises(TypeError, match="path must be bytes, not str"):
        kernel.scan_directory("/tmp")


def test_names_that_cannot_be_examined_are_marked(kernel: ModuleType, users_folder: Path) -> None:
    """A directory that may be listed but not entered."""
    folder = users_folder / "listable"
    folder.mkdir()
    (folder / "a").touch()
    folder.chmod(0o400)
    assert kernel.scan_directory(os.fsencode(folder)) == ([b"a"], b"\xff" * 72)
    folder.chmod(0o700)


def test_forbidden_directory_raises(kernel: ModuleType, users_folder: Path) -> None:
    folder = users_folder / "closed"
    folder.mkdir(mode=0)
    with pytest.raises(PermissionError):
        kernel.scan_directory(os.fsencode(folder))


def test_names_that_vanish_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the reference can be stopped between listing and examining."""
    (tmp_path / "stays").touch()
    monkeypatch.setattr(os, "listdir", lambda _: ["gone", "stays", "stays"])
    names, data = reference.scan_directory(os.fsencode(tmp_path))
    assert names == [b"stays"]
    assert stat.S_ISREG(records(data)[0].mode)


def test_scans_leave_no_descriptor_open(kernel: ModuleType, tmp_path: Path) -> None:
    before = open_descriptors()
    for path in (tmp_path, tmp_path / "absent"):
        try:
            kernel.scan_directory(os.fsencode(path))
        except OSError:
            pass
    assert open_descriptors() == before


def test_stat_record_is_72_bytes_with_the_fields_in_order() -> None:
    fields = StatRecord(*range(12))
    assert STAT_RECORD.size == 72
    assert STAT_RECORD.unpack(STAT_RECORD.pack(*fields)) == fields
