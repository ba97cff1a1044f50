"""What the folder transport promises beyond the conformance suite."""

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_local import files
from cdr_local.plugin import LocalPlugin
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import ConfigError, NotFoundError, RemoteError, StorageFullError, UserError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount or to give files away")


def open_at(path: Path | str, *, create: bool = True) -> Transport:
    return LocalPlugin().open(str(path), {}, create=create)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
def storage(root: Path) -> Iterator[Transport]:
    with open_at(root) as transport:
        yield transport


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", disk], check=True)
    yield disk
    subprocess.run(["umount", disk], check=True)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


def test_put_file_and_get_file_share_the_bytes_on_one_file_system(
    storage: Transport, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(b"x" * 100)
    storage.put_file("a/b", tmp_path / "in")
    storage.get_file("a/b", tmp_path / "out")
    inodes = {path.stat().st_ino for path in (tmp_path / "in", root / "a/b", tmp_path / "out")}
    assert len(inodes) == 1


@needs_root
def test_files_of_another_user_are_copied_not_linked(storage: Transport, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"foreign")
    os.chown(tmp_path / "in", 12345, 12345)
    storage.put_file("a", tmp_path / "in")
    assert (root / "a").stat().st_ino != (tmp_path / "in").stat().st_ino
    os.chown(root / "a", 12345, 12345)
    storage.get_file("a", tmp_path / "out")
    assert (tmp_path / "out").stat().st_ino != (root / "a").stat().st_ino
    assert (tmp_path / "out").read_bytes() == b"foreign"


@needs_root
def test_other_file_systems_get_copies(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(range(256)) * 400)
    with open_at(small_disk / "storage") as storage:
        storage.put_file("a", tmp_path / "in")
        storage.get_file("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "in").read_bytes()


def test_get_file_does_not_replace_a_file(storage: Transport, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"mine")
    storage.put("a", b"theirs")
    with pytest.raises(RemoteError, match="out: this file exists already"):
        storage.get_file("a", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"mine"


def test_a_missing_target_folder_is_not_a_missing_object(storage: Transport, tmp_path: Path) -> None:
    storage.put("a", b"x")
    with pytest.raises(RemoteError, match="missing/out") as caught:
        storage.get_file("a", tmp_path / "missing" / "out")
    assert not isinstance(caught.value, NotFoundError)


@needs_root
def test_a_full_disk_is_back_pressure_and_leaves_no_trace(small_disk: Path, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(400_000))
    with open_at(small_disk / "storage") as storage:
        storage.put("kept", b"kept")
        with pytest.raises(StorageFullError, match="/a: No space left on device; free some space") as caught:
            storage.put("a", os.urandom(400_000))
        assert caught.value.exit_code == 75
        with pytest.raises(StorageFullError):
            storage.put_file("b", tmp_path / "big")
        with pytest.raises(StorageFullError):
            storage.put("kept", os.urandom(400_000), overwrite=True)
        assert files_below(small_disk) == {"storage/kept"}
        assert storage.get("kept") == b"kept"
        storage.put("c", os.urandom(100_000))


@needs_root
def test_free_space_follows_what_is_stored(small_disk: Path) -> None:
    with open_at(small_disk) as storage:
        before = storage.free_space()
        storage.put("a", os.urandom(100_000))
        after = storage.free_space()
    assert before is not None
    assert after is not None
    assert 100_000 <= before - after < 120_000


def test_deleting_the_last_object_removes_the_empty_folders_but_not_the_root(
    storage: Transport, root: Path
) -> None:
    storage.put("a/b/c", b"1")
    storage.put("a/d", b"2")
    storage.delete("a/b/c")
    assert sorted(os.listdir(root / "a")) == ["d"]
    storage.delete("a/d")
    assert os.listdir(root) == []


def test_symbolic_links_below_the_root_lead_nowhere(storage: Transport, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (root / "folder").symlink_to(outside)
    (root / "object").symlink_to(outside / "secret")
    (root / "dangling").symlink_to(outside / "new")
    for name in ("folder/secret", "object", "dangling"):
        with pytest.raises(NotFoundError):
            storage.get(name)
        with pytest.raises(NotFoundError):
            storage.stat(name)
        with pytest.raises(NotFoundError):
            storage.get_file(name, tmp_path / "out")
        with pytest.raises(RemoteError):
            storage.put(name, b"planted")
        storage.delete(name)
    with pytest.raises(RemoteError, match="a symbolic link or a file is where a folder should be"):
        storage.put("folder/new", b"planted")
    assert list(storage.list()) == []
    assert list(storage.list("folder")) == []
    assert files_below(outside) == {"secret"}
    storage.put("object", b"mine", overwrite=True)
    assert (storage.get("object"), (outside / "secret").read_bytes()) == (b"mine", b"secret")


def test_pipes_folders_and_foreign_names_are_no_objects(storage: Transport, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "a b").write_bytes(b"foreign")
    (root / ".hidden").mkdir()
    (root / ".hidden" / "a").write_bytes(b"foreign")
    with pytest.raises(NotFoundError):
        storage.get("pipe")
    with pytest.raises(RemoteError, match="what is there is not a file"):
        storage.put("pipe", b"x")
    assert list(storage.list()) == []


def test_folders_too_deep_for_a_name_are_not_listed(storage: Transport, root: Path) -> None:
    deep = root.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "a").write_bytes(b"x")
    assert list(storage.list()) == []


def test_a_killed_put_leaves_no_object_and_is_swept_a_day_later(storage: Transport, root: Path) -> None:
    script = textwrap.dedent("""
        import os, signal, sys
        from cdr_local import files
        from cdr_local.plugin import LocalPlugin
        storage = LocalPlugin().open(sys.argv[1], {}, create=True)
        write_all = files.write_all
        def die(descriptor, data):
            write_all(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        files.write_all = die
        storage.put("f/a", b"x" * 1000)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", script, root], env=environment)
    assert killed.returncode == -9
    [left] = (root / "f").iterdir()
    assert left.name.startswith(files.TEMPORARY)
    assert list(storage.list()) == []
    assert left.exists()
    two_days_ago = left.stat().st_mtime - 2 * 86400
    os.utime(left, (two_days_ago, two_days_ago))
    assert list(storage.list()) == []
    assert not left.exists()


class Cut(Exception):
    pass


def cut_put(root: Path, name: str, path: Path, *, after: int = 1) -> Path:
    """A put that breaks when ``after`` bytes have travelled; the file that it leaves."""
    def moved(count: int) -> None:
        nonlocal after
        after -= count
        if after <= 0:
            raise Cut

    with LocalPlugin().open(str(root), {"links": False}, create=True) as storage, pytest.raises(Cut):
        storage.put_file(name, path, moved)
    [left] = (root / name).parent.glob(".*")
    return left


@pytest.fixture
def copying(root: Path) -> Iterator[Transport]:
    with LocalPlugin().open(str(root), {"links": False}, create=True) as transport:
        yield transport


def test_what_a_cut_put_left_is_swept_a_month_later(copying: Transport, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(2_000_000))
    left = cut_put(root, "f/a", tmp_path / "in")
    for days, stays in ((29, True), (31, False)):
        os.utime(left, (left.stat().st_mtime - days * 86400,) * 2)
        assert list(copying.list()) == []
        assert left.exists() is stays
        if stays:
            os.utime(left)


def test_a_killed_put_of_a_file_is_continued(copying: Transport, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(os.urandom(3_000_000))
    script = textwrap.dedent("""
        import os, pathlib, signal, sys
        from cdr_local.plugin import LocalPlugin
        count = 0
        def moved(size):
            global count
            count += size
            if count >= 1_000_000:
                os.kill(os.getpid(), signal.SIGKILL)
        with LocalPlugin().open(sys.argv[1], {"links": False}, create=True) as storage:
            storage.put_file("f/a", pathlib.Path(sys.argv[2]), moved)
    """)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", script, root, tmp_path / "in"], env=environment)
    assert killed.returncode == -9
    assert list(copying.list()) == []
    assert copying.put_file("f/a", tmp_path / "in") >= 1_000_000
    assert copying.get("f/a") == (tmp_path / "in").read_bytes()
    assert files_below(root) == {"f/a"}


def test_an_object_whose_answer_was_lost_does_not_travel_again(copying: Transport, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(2_000_000))
    told: list[int] = []
    assert [copying.put_file("a", tmp_path / "in", told.append) for _ in range(2)] == [0, 2_000_000]
    assert sum(told) == 2_000_000


def test_two_puts_of_one_object_at_once_do_not_write_into_one_file(
    copying: Transport, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(os.urandom(1_000_000))
    inner: list[int] = []

    def meanwhile(_: int) -> None:
        if not inner:
            inner.append(1)
            copying.put_file("a", tmp_path / "in")

    copying.put_file("a", tmp_path / "in", meanwhile)
    assert copying.get("a") == (tmp_path / "in").read_bytes()
    assert files_below(root) == {"a"}


@pytest.mark.parametrize("planted", ["link", "pipe", "folder", "second name"])
def test_what_somebody_planted_as_an_unfinished_put_is_not_written_to(
    copying: Transport, root: Path, tmp_path: Path, planted: str
) -> None:
    (tmp_path / "in").write_bytes(bytes(1_000_000))
    left = cut_put(root, "a", tmp_path / "in")
    left.unlink()
    (tmp_path / "other").write_bytes(b"other")
    plant = {
        "link": lambda: left.symlink_to(tmp_path / "other"),
        "pipe": lambda: os.mkfifo(left),
        "folder": left.mkdir,
        "second name": lambda: left.hardlink_to(tmp_path / "other"),
    }
    plant[planted]()
    assert copying.put_file("a", tmp_path / "in") == 0
    assert copying.get("a") == bytes(1_000_000)
    assert (tmp_path / "other").read_bytes() == b"other"


@needs_root
def test_a_file_of_another_user_is_not_continued(copying: Transport, root: Path, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(bytes(1_000_000))
    left = cut_put(root, "a", tmp_path / "in")
    os.chown(left, 12345, 12345)
    assert copying.put_file("a", tmp_path / "in") == 0
    assert (root / "a").stat().st_uid == os.geteuid()


def test_mounts_without_locks_start_anew(
    copying: Transport, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / "in").write_bytes(bytes(1_000_000))
    cut_put(root, "a", tmp_path / "in")
    monkeypatch.setattr("fcntl.flock", no_lock)
    assert copying.put_file("a", tmp_path / "in") == 0
    assert copying.get("a") == bytes(1_000_000)


@pytest.mark.parametrize("settings", [{"links": 1}, {"link": False}])
def test_settings_that_do_not_exist_are_refused(root: Path, settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="there is only 'links'"):
        LocalPlugin().open(str(root), settings, create=True)


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
def test_file_systems_without_hard_links_keep_the_promises(
    storage: Transport, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def no_link(*_: object, **__: object) -> None:
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", no_link)
    (tmp_path / "in").write_bytes(b"file")
    storage.put("a", b"first")
    storage.put("a", b"first")
    storage.put_file("b", tmp_path / "in")
    storage.get_file("b", tmp_path / "out")
    with pytest.raises(RemoteError, match="it exists already, with other bytes"):
        storage.put("a", b"other")
    assert (storage.get("a"), storage.get("b")) == (b"first", b"file")
    assert (tmp_path / "out").read_bytes() == b"file"
    assert files_below(root) == {"a", "b"}


@needs_root
def test_kernels_without_copy_file_range_copy_in_steps(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object) -> int:
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(os, "copy_file_range", absent)
    (tmp_path / "in").write_bytes(os.urandom(200_000))
    with open_at(small_disk) as storage:
        storage.put_file("a", tmp_path / "in")
        assert storage.get("a") == (tmp_path / "in").read_bytes()


def test_everything_is_synced_before_put_returns(
    storage: Transport, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    storage.put("a/b/c", b"x")
    assert synced[0].startswith(files.TEMPORARY)
    assert synced[1:] == ["b", "a", "storage"]
    synced.clear()
    storage.put("a/b/c", b"x")
    assert synced[1:] == ["c", "b", "a", "storage"]


def test_new_root_folders_are_synced_into_their_parents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    open_at(tmp_path / "x" / "y").close()
    assert synced == [str(tmp_path), str(tmp_path / "x")]


def test_use_after_close_is_an_error_even_if_the_descriptor_is_used_again(
    root: Path, tmp_path: Path
) -> None:
    storage = open_at(root)
    storage.close()
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(RemoteError):
            storage.put("a", b"x")
        with pytest.raises(RemoteError):
            storage.free_space()
    finally:
        os.close(other)
    assert files_below(tmp_path) == set()


def test_a_missing_root_says_what_to_do(root: Path) -> None:
    with pytest.raises(NotFoundError, match=f"{root}: no such folder; create it, mount it"):
        open_at(root, create=False)
    root.write_bytes(b"")
    with pytest.raises(RemoteError, match=str(root)):
        open_at(root)


def test_all_spellings_of_a_location_name_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    expected = tmp_path / "in box"
    spellings = [
        str(expected),
        f"file:{expected}",
        f"file://{tmp_path}/in%20box",
        f"file://localhost{expected}",
        f"FILE:{expected}",
        "./in box",
        "in box",
        "file:in box",
        "~/in box",
        "file:~/in%20box",
    ]
    for url in spellings:
        assert LocalPlugin().local_folder(url) == expected, url
    assert LocalPlugin().local_folder("/a%20b") == Path("/a%20b")
    assert LocalPlugin().local_folder("file:/%ff") == Path(os.fsdecode(b"/\xff"))


@pytest.mark.parametrize("url", ["", "file:", "file://nas/srv", "file:///a%00b", "~nobody-of-this-name/x"])
def test_locations_that_name_no_folder_are_the_users_fault(url: str) -> None:
    with pytest.raises(UserError, match="names"):
        LocalPlugin().local_folder(url)


def test_descriptors_are_not_leaked(storage: Transport) -> None:
    def use() -> None:
        storage.put("a/b/c", b"x")
        list(storage.list())
        next(storage.list())
        for name in ("a/b/none", "a/b", "a/b/c/d"):
            with pytest.raises(NotFoundError):
                storage.get(name)
        storage.delete("a/b/c")

    use()
    before = os.listdir("/proc/self/fd")
    for _ in range(5):
        use()
    assert os.listdir("/proc/self/fd") == before
