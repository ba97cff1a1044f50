"""What of an item is restored, who restores it, and what killed restores leave."""

from __future__ import annotations

import fcntl
import os
import pwd
import stat
from pathlib import Path

import pytest

from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.trees import GO_SETUID, ExtendedAttribute
from cdr_plugin.restore import Overwrite, RestoreOptions, restore
from cdr_plugin.restore.leftovers import Leftovers
from tests.restore.memory_reader import Listener, MemoryReader, node

NOBODY = pwd.getpwnam("nobody")


def run(reader: MemoryReader, root: BlobId, target: Path, **options: object) -> dict[str, str]:
    """The errors of a restore, by item."""
    listener = Listener()
    summary = restore(reader, root, RestoreOptions(target=target, **options), listener)  # type: ignore[arg-type]
    assert summary.errors == len(listener.errors)
    return listener.errors


def test_extended_attributes_by_pattern(tmp_path: Path) -> None:
    reader = MemoryReader()
    xattrs = [ExtendedAttribute(f"user.{name}", b"v") for name in ("a", "b.one", "b.two")]
    root = reader.tree(reader.file("f", b"1", extended_attributes=xattrs))
    assert not run(reader, root, tmp_path / "in", include_attributes=["user.b.*"])
    assert sorted(os.listxattr(tmp_path / "in/f")) == ["user.b.one", "user.b.two"]
    assert not run(reader, root, tmp_path / "ex", exclude_attributes=["user.b.*"])
    assert os.listxattr(tmp_path / "ex/f") == ["user.a"]
    os.setxattr(tmp_path / "ex/f", "user.b.mine", b"kept")
    os.setxattr(tmp_path / "ex/f", "user.other", b"removed")
    again = {"exclude_attributes": ["user.b.*"], "overwrite": Overwrite.IF_CHANGED}
    assert not run(reader, root, tmp_path / "ex", **again)
    assert sorted(os.listxattr(tmp_path / "ex/f")) == ["user.a", "user.b.mine"]
    with pytest.raises(UserError, match="not both"):
        run(reader, root, tmp_path, include_attributes=["a"], exclude_attributes=["b"])


def test_owners_by_name_where_the_name_is_known(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.file("known", b"1", uid=7, gid=8, user="nobody", group="daemon"),
        reader.file("unknown", b"1", uid=7, gid=8, user="no such user", group=""),
    )
    assert not run(reader, root, tmp_path, ownership_by_name=True)
    known, unknown = os.stat(tmp_path / "known"), os.stat(tmp_path / "unknown")
    assert known.st_uid == NOBODY.pw_uid and known.st_gid == 1
    assert (unknown.st_uid, unknown.st_gid) == (7, 8)


def test_patterns_that_ignore_case(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(reader.file("A.TXT", b"1"), reader.file("a.bin", b"1"), reader.file("b.txt", b"1"))
    run(reader, root, tmp_path / "in", include_ignoring_case=["*.Txt"], include=["*.BIN"])
    assert sorted(os.listdir(tmp_path / "in")) == ["A.TXT", "b.txt"]
    run(reader, root, tmp_path / "ex", exclude_ignoring_case=["a.*"])
    assert os.listdir(tmp_path / "ex") == ["b.txt"]


def test_metadata_that_cannot_be_set_costs_a_line_and_not_the_item(tmp_path: Path) -> None:
    """The kernel takes no attribute of more than 64 KiB, and no name of more than 255 bytes."""
    reader = MemoryReader()
    bad = [ExtendedAttribute("user.big", bytes(100_000)), ExtendedAttribute("user.fine", b"v")]
    long = [ExtendedAttribute("user." + "n" * 300, b"v")]
    root = reader.tree(
        reader.folder("d", reader.file("f", b"content", mode=0o640, extended_attributes=bad), extended_attributes=long),
        node("fifo", "fifo", mode=0o600, extended_attributes=bad),
        reader.file("z", b"1"),
    )
    errors = run(reader, root, tmp_path)
    assert set(errors) == {"/d", "/d/f", "/fifo"} and all("is in place, but" in text for text in errors.values())
    assert (tmp_path / "d/f").read_bytes() == b"content"
    assert stat.S_IMODE(os.stat(tmp_path / "d/f").st_mode) == 0o640
    assert os.getxattr(tmp_path / "d/f", "user.fine") == b"v"


def test_names_too_long_and_files_that_may_not_be_replaced_cost_only_themselves(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.file("a" * 256, b"1"), reader.folder("b" * 256, reader.file("f", b"1")), reader.file("fixed", b"new"),
        node("l" * 256, "symlink", linktarget="x"), reader.file("z", b"1"),
    )  # fmt: skip
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "fixed").write_text("old")
    assert os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)) == 0
    try:
        (disk / "fixed").mkdir()
        errors = run(reader, root, disk, overwrite=Overwrite.ALWAYS)
        assert set(errors) == {"/" + "a" * 256, "/" + "b" * 256, "/" + "l" * 256, "/fixed"}
        assert sorted(os.listdir(disk)) == ["fixed", "z"]
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(disk))


def test_an_ordinary_user_restores_what_is_allowed(tmp_path: Path) -> None:
    """Owners of others are passed over, setuid with them; own folders without permissions are entered."""
    reader = MemoryReader()
    root = reader.tree(
        reader.folder("closed", reader.file("new", b"1"), reader.file("old", b"newer"), mode=0o500 | 1 << 31),
        reader.folder("dark", reader.file("f", b"2"), mode=1 << 31),
        reader.file("tool", b"3", uid=77, gid=88, mode=0o755 | GO_SETUID),
    )
    target = tmp_path / "t"
    (target / "closed").mkdir(parents=True)
    (target / "dark").mkdir()
    (target / "closed/old").write_text("old")
    for path in (target, *target.rglob("*")):
        os.chown(path, NOBODY.pw_uid, NOBODY.pw_gid)
    (target / "closed").chmod(0o500)
    (target / "dark").chmod(0)
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            os.chdir(target)  # what is above belongs to root alone
            os.setgroups([])
            os.setgid(NOBODY.pw_gid)
            os.setuid(NOBODY.pw_uid)
            status = len(run(reader, root, Path("."), overwrite=Overwrite.ALWAYS))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (target / "closed/new").read_bytes() == b"1" and (target / "closed/old").read_bytes() == b"newer"
    assert (target / "dark/f").read_bytes() == b"2"
    assert stat.S_IMODE(os.stat(target / "closed").st_mode) == 0o500
    assert stat.S_IMODE(os.stat(target / "dark").st_mode) == 0
    tool = os.stat(target / "tool")
    assert (tool.st_uid, stat.S_IMODE(tool.st_mode)) == (NOBODY.pw_uid, 0o755)


def leave_behind(target: Path) -> set[Path]:
    """What a killed restore could leave in a folder and below."""
    (target / "d").mkdir(parents=True)
    (target / ".cdr-restore-0a1b2c3d-1f").write_text("half")
    (target / "d/.cdr-restore-0a1b2c3d-20").symlink_to("nowhere")
    return set(target.rglob(".cdr-restore-*"))


def test_what_killed_restores_left_is_swept_by_the_next(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(reader.folder("d", reader.file("f", b"1")))
    leave_behind(tmp_path)
    (tmp_path / ".cdr-restore-mine").write_text("no name of ours")
    (tmp_path / ".cdr-restore-0a1b2c3d-21").mkdir()
    run(reader, root, tmp_path, dry_run=True)
    assert len(os.listdir(tmp_path)) == 4
    assert not run(reader, root, tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".cdr-restore-0a1b2c3d-21", ".cdr-restore-mine", "d"]
    assert os.listdir(tmp_path / "d") == ["f"]


def test_nothing_is_swept_beside_another_restore_nor_what_the_version_holds(tmp_path: Path) -> None:
    reader = MemoryReader()
    left = leave_behind(tmp_path)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        Leftovers(fd)
        run(reader, reader.tree(reader.folder("d")), tmp_path)
        assert set(tmp_path.rglob(".cdr-restore-*")) == left
    finally:
        os.close(fd)
    name = ".cdr-restore-0a1b2c3d-1f"
    run(reader, reader.tree(reader.file(name, b"of the version"), reader.folder("d")), tmp_path)
    assert (tmp_path / name).read_text() == "half"
    assert os.listdir(tmp_path / "d") == []


def test_names_that_differ_in_case_are_all_restored_where_case_counts(tmp_path: Path) -> None:
    reader = MemoryReader()
    names = ("README", "Readme", "readme", "\xc4", "\xe4")
    root = reader.tree(*(reader.file(name, name.encode()) for name in names), reader.folder("ReadME"))
    assert not run(reader, root, tmp_path)
    assert {(tmp_path / name).read_bytes() for name in names} == {name.encode() for name in names}


def test_names_that_differ_in_case_are_named_where_it_does_not(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(reader.file("README", b"1"), reader.file("other", b"2"), reader.file("readme", b"3"))
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "tmpfs", "-o", "casefold", "none", str(disk)):
        pytest.skip("this kernel has no file system here that ignores case")
    try:
        (disk / "target").mkdir()
        os.spawnlp(os.P_WAIT, "chattr", "chattr", "+F", str(disk / "target"))
        errors = run(reader, root, disk / "target", overwrite=Overwrite.ALWAYS)
        assert set(errors) == {"/readme"} and "only in case" in errors["/readme"]
        assert (disk / "target/README").read_bytes() == b"1"
        assert sorted(os.listdir(disk / "target")) == ["README", "other"]
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(disk))
