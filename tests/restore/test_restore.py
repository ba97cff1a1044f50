"""Restoring from hand-made trees: contents, metadata, links, choices, damage."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import NotFoundError, RemoteError, StorageFullError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id
from cdr_plugin.model.trees import GO_FIFO, GO_SETUID, ExtendedAttribute, Node
from cdr_plugin.restore import Overwrite, RestoreOptions, RestoreSummary, restore, restoring
from tests.restore.memory_reader import BLOB_BYTES, TIME_NS, Listener, MemoryReader, node
from tests.support.odd_tree import ACCESS_ACL, DEFAULT_ACL

BIG = bytes(range(256)) * 200  # 51,200 bytes: six blobs, of which two are alike


def run(
    reader: RepositoryReader, root: BlobId, target: Path, listener: Listener | None = None, **options: object
) -> RestoreSummary:
    """Restore; errors fail the test unless it listens."""
    quiet = listener or Listener()
    summary = restore(reader, root, RestoreOptions(target=target, **options), quiet)  # type: ignore[arg-type]
    assert summary.errors == len(quiet.errors)
    assert listener is not None or not quiet.errors, quiet.errors
    assert not leftovers(target)
    return summary


def leftovers(target: Path) -> list[Path]:
    return [path for path in target.rglob("*") if path.name.startswith(".cdr-restore-")]


def test_contents_come_back_and_each_blob_is_read_once(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.folder("d", reader.file("big", BIG), reader.file("same", BIG), reader.file("small", BIG[:10])),
        reader.file("empty"),
    )
    summary = run(reader, root, tmp_path / "new" / "target")
    made = tmp_path / "new" / "target"
    assert (made / "d/big").read_bytes() == (made / "d/same").read_bytes() == BIG
    assert (made / "d/small").read_bytes() == BIG[:10]
    assert (made / "empty").read_bytes() == b""
    assert len(reader.requested) == len(set(reader.requested))
    assert (summary.total_files, summary.files_restored, summary.files_skipped) == (5, 5, 0)
    assert summary.total_bytes == summary.bytes_restored == 2 * len(BIG) + 10


def test_windows_do_not_show_in_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "WINDOW_ITEMS", 3)
    reader = MemoryReader()
    linked = {"links": 2, "inode": 9, "device_id": 1}
    root = reader.tree(
        *(
            reader.folder(
                f"d{n}",
                *(reader.file(f"f{m}", b"%d-%d" % (n, m)) for m in range(5)),
                reader.file("linked", b"l", **linked),
            )
            for n in range(4)
        )
    )
    run(reader, root, tmp_path)
    assert {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("f?")} == {
        f"d{n}/f{m}": b"%d-%d" % (n, m) for n in range(4) for m in range(5)
    }
    assert len({os.stat(tmp_path / f"d{n}/linked").st_ino for n in range(4)}) == 1
    assert {os.stat(tmp_path / f"d{n}").st_mtime_ns for n in range(4)} == {TIME_NS}


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize(
    "data",
    [
        bytes(BLOB_BYTES),
        bytes(3 * BLOB_BYTES + 17),
        b"x" + bytes(BLOB_BYTES * 2),
        bytes(BLOB_BYTES * 2) + b"x",
        bytes(5000) + b"middle" + bytes(5000),
        bytes(100),
        b"head" + bytes(9000),
    ],
)
def test_zeros_come_back_as_zeros(tmp_path: Path, data: bytes, sparse: bool) -> None:
    reader = MemoryReader()
    run(reader, reader.tree(reader.file("f", data)), tmp_path, sparse=sparse, verify=True)
    assert (tmp_path / "f").read_bytes() == data


def test_a_run_of_zeros_takes_no_space(tmp_path: Path) -> None:
    reader = MemoryReader()
    run(reader, reader.tree(reader.file("f", bytes(1 << 20))), tmp_path)
    assert os.stat(tmp_path / "f").st_blocks == 0


def test_modes_owners_times_and_attributes_are_applied(tmp_path: Path) -> None:
    reader = MemoryReader()
    xattrs = [ExtendedAttribute("user.a", b"\0\xff"), ExtendedAttribute("system.posix_acl_access", ACCESS_ACL)]
    root = reader.tree(
        reader.file(
            "f",
            b"x",
            mode=0o755 | GO_SETUID,
            uid=77,
            gid=88,
            mtime="1931-01-01T00:00:00.5+01:00",
            extended_attributes=xattrs,
        ),
        reader.folder("none", reader.file("inside", b"y"), mode=1 << 31),
        reader.file("zero", b"", mode=0),
    )
    run(reader, root, tmp_path)
    info = os.stat(tmp_path / "f")
    # The ACL's mask is the group's permissions of the mode: mode is applied last.
    assert stat.S_IMODE(info.st_mode) == 0o4755
    assert (info.st_uid, info.st_gid) == (77, 88)
    assert info.st_mtime_ns == -1230771600 * 10**9 + 500_000_000
    assert os.getxattr(tmp_path / "f", "user.a") == b"\0\xff"
    assert stat.S_IMODE(os.stat(tmp_path / "none").st_mode) == 0
    assert stat.S_IMODE(os.stat(tmp_path / "zero").st_mode) == 0


def test_an_acl_that_new_entries_inherit_is_taken_off_again(tmp_path: Path) -> None:
    os.setxattr(tmp_path, "system.posix_acl_default", DEFAULT_ACL)
    reader = MemoryReader()
    run(reader, reader.tree(reader.file("f", b"x"), reader.folder("d", reader.file("g", b"y"))), tmp_path)
    for name in ("f", "d", "d/g"):
        assert os.listxattr(tmp_path / name) == []


def test_special_files_links_and_raw_targets_are_made(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        node("fifo", "fifo", mode=0o640 | GO_FIFO, uid=3, gid=4),
        node("null", "chardev", mode=0o600, device=os.makedev(1, 3)),
        node("link", "symlink", mode=0o777, linktarget="plain"),
        node("raw", "symlink", mode=0o777, linktarget="\ufffd", linktarget_raw=b"\xff\xfe"),
        node("socket", "socket", mode=0o777),
    )
    listener = Listener()
    run(reader, root, tmp_path, listener)
    assert stat.S_ISFIFO(os.lstat(tmp_path / "fifo").st_mode)
    assert os.lstat(tmp_path / "null").st_rdev == os.makedev(1, 3)
    assert os.readlink(os.fsencode(tmp_path / "raw")) == b"\xff\xfe"
    assert os.lstat(tmp_path / "link").st_mtime_ns == TIME_NS
    assert not (tmp_path / "socket").exists()
    assert any("/socket: sockets are not restored" in note for note in listener.notes)


def test_hard_links_are_joined_even_when_the_first_name_is_excluded(tmp_path: Path) -> None:
    reader = MemoryReader()
    group = {"links": 4, "inode": 5, "device_id": 6}
    root = reader.tree(
        reader.file("a", BIG, **group),
        reader.file("b", BIG, **group),
        reader.folder("d", reader.file("c", BIG, **group)),
        reader.file("other", b"other content", **group),
    )
    summary = run(reader, root, tmp_path, exclude=["/a"])
    assert not (tmp_path / "a").exists()
    assert os.stat(tmp_path / "b").st_ino == os.stat(tmp_path / "d/c").st_ino
    assert (tmp_path / "d/c").read_bytes() == BIG
    assert (tmp_path / "other").read_bytes() == b"other content", "an inode number used again joins nothing"
    assert summary.bytes_restored == len(BIG) + len(b"other content")


def test_only_included_items_and_their_parents_come(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.folder(
            "home", reader.folder("me", reader.file("a.txt", b"a"), reader.file("b.bin", b"b")), mode=0o711 | 1 << 31
        ),
        reader.folder("var", reader.folder("log")),
    )
    run(reader, root, tmp_path / "one", include=["*.txt"])
    assert sorted(p.relative_to(tmp_path / "one").as_posix() for p in (tmp_path / "one").rglob("*")) == [
        "home",
        "home/me",
        "home/me/a.txt",
    ]
    assert stat.S_IMODE(os.stat(tmp_path / "one/home").st_mode) == 0o711
    assert os.stat(tmp_path / "one/home").st_mtime_ns == TIME_NS
    run(reader, root, tmp_path / "two", include=["/home"], exclude=["*.bin"])
    assert not (tmp_path / "two/var").exists()
    assert os.listdir(tmp_path / "two/home/me") == ["a.txt"]
    with pytest.raises(UserError, match="malformed"):
        run(reader, root, tmp_path / "three", include=["["])


@pytest.mark.parametrize(
    ("overwrite", "found", "result"),
    [
        (Overwrite.NEVER, "older", "kept"),
        (Overwrite.NEVER, "newer", "kept"),
        (Overwrite.IF_NEWER, "older", "replaced"),
        (Overwrite.IF_NEWER, "newer", "kept"),
        (Overwrite.IF_CHANGED, "older", "replaced"),
        (Overwrite.IF_CHANGED, "newer", "replaced"),
        (Overwrite.IF_CHANGED, "same content", "mended"),
        (Overwrite.IF_CHANGED, "same size and time", "mended"),
        (Overwrite.ALWAYS, "older", "replaced"),
        (Overwrite.ALWAYS, "same content", "mended"),
        (Overwrite.ALWAYS, "same size and time", "replaced"),
        (Overwrite.ALWAYS, "symlink", "replaced"),
        (Overwrite.NEVER, "symlink", "kept"),
    ],
)
def test_an_existing_file_is_treated_as_asked(tmp_path: Path, overwrite: Overwrite, found: str, result: str) -> None:
    reader = MemoryReader()
    root = reader.tree(reader.file("f", BIG, mode=0o640))
    path, outside = tmp_path / "t/f", tmp_path / "outside"
    path.parent.mkdir()
    outside.write_bytes(b"not ours")
    if found == "symlink":
        path.symlink_to(outside)
    else:
        path.write_bytes(BIG if found == "same content" else BIG[::-1])
        os.utime(path, ns=(0, {"older": 5, "newer": 2**61, "same content": 5}.get(found, TIME_NS)))
    before, inode = path.read_bytes(), os.lstat(path).st_ino
    summary = run(reader, root, tmp_path / "t", overwrite=overwrite)
    assert outside.read_bytes() == b"not ours"
    assert summary.files_skipped == (result != "replaced")
    assert path.read_bytes() == (BIG if result == "replaced" else before)
    assert (os.lstat(path).st_ino == inode) == (result != "replaced")
    if result == "mended":
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o640
        assert os.stat(path).st_mtime_ns == TIME_NS


def test_a_second_name_of_an_existing_file_is_not_written_through(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(reader.file("f", BIG))
    (tmp_path / "other").write_bytes(BIG)
    os.link(tmp_path / "other", tmp_path / "f")
    run(reader, root, tmp_path, overwrite=Overwrite.IF_CHANGED)
    assert stat.S_IMODE(os.stat(tmp_path / "other").st_mode) != 0 and os.stat(tmp_path / "other").st_nlink == 1


@pytest.mark.parametrize("overwrite", list(Overwrite))
def test_folder_against_file_is_an_error_of_that_item(tmp_path: Path, overwrite: Overwrite) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.file("d", b"file where a folder is"),
        reader.folder("f", reader.file("lost", b"1")),
        reader.file("good", b"good"),
        node("s", "symlink", linktarget="x"),
    )
    (tmp_path / "d/keep").mkdir(parents=True)
    (tmp_path / "s").mkdir()
    (tmp_path / "f").write_bytes(b"keep")
    listener = Listener()
    run(reader, root, tmp_path, listener, overwrite=overwrite)
    assert set(listener.errors) == {"/d", "/f", "/s"}
    assert all("move it away" in text for text in listener.errors.values())
    assert (tmp_path / "f").read_bytes() == b"keep" and (tmp_path / "d/keep").is_dir()
    assert (tmp_path / "good").read_bytes() == b"good"


@pytest.mark.parametrize("overwrite", list(Overwrite))
def test_a_planted_symlink_is_never_followed(tmp_path: Path, overwrite: Overwrite) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.folder("d", reader.folder("e", reader.file("f", b"evil"))), reader.file("g", b"evil"), reader.file("h")
    )
    outside, target = tmp_path / "outside", tmp_path / "target"
    (outside / "e").mkdir(parents=True)
    (outside / "g").write_bytes(b"safe")
    before = os.stat(outside)
    target.mkdir()
    (target / "d").symlink_to(outside)
    (target / "g").symlink_to(outside / "g")
    (target / "h").symlink_to(outside / "new")
    listener = Listener()
    run(reader, root, target, listener, overwrite=overwrite)
    assert "is not a folder" in listener.errors["/d"]
    assert (outside / "g").read_bytes() == b"safe"
    assert sorted(os.listdir(outside)) == ["e", "g"] and os.listdir(outside / "e") == []
    assert (os.stat(outside).st_mode, os.stat(outside).st_mtime_ns) == (before.st_mode, before.st_mtime_ns)


HOSTILE_NAMES = ["", ".", "..", "a/b", "/etc/passwd", "../x", r"\x2e\x2e", r"\x2f", r"a\x00b", r"bad\q", '"']


@pytest.mark.parametrize("name", HOSTILE_NAMES)
@pytest.mark.parametrize("type_", ["file", "dir", "symlink", "fifo"])
def test_a_name_that_is_no_component_is_refused_and_the_rest_goes_on(tmp_path: Path, name: str, type_: str) -> None:
    reader = MemoryReader()
    fields: dict[str, object] = {
        "file": {"content": reader.content(b"evil"), "size": 4},
        "dir": {"subtree": reader.tree(reader.file("f", b"evil")).hex()},
        "symlink": {"linktarget": "/"},
        "fifo": {},
    }[type_]  # type: ignore[assignment]
    root = reader.tree(node(name, type_, **fields), reader.file("good", b"good"))
    listener = Listener()
    target = tmp_path / "a/target"
    run(reader, root, target, listener)
    assert len(listener.errors) == 1
    assert os.listdir(target) == ["good"]
    assert sorted(os.listdir(tmp_path)) == ["a"] and os.listdir(tmp_path / "a") == ["target"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (node("x", "file"), "no content list"),
        (node("x", "file", content=["zz" * 32], size=1), "no ID"),
        (node("x", "file", content=["ab" * 31], size=1), "no ID"),
        (node("x", "file", content=["ab" * 32], size=1), "not in the repository"),
        (node("x", "file", content=["ab" * 32, "cd" * 32], size=1), "not in the repository"),
        (node("x", "file", content=[], size=7), "blobs hold 0 bytes, but the tree says 7"),
        (node("x", "dir"), "no ID"),
        (node("x", "door"), "unknown type 'door'"),
        (node("x", "symlink", linktarget="a\0b"), "null"),
        (node("x", "symlink"), "No such file"),
        (node("x", "fifo", uid=-1), "out of range"),
        (node("x", "fifo", gid=1 << 32), "out of range"),
        (node("x", "fifo", mtime="yesterday"), "not an RFC 3339 time"),
        (node("x", "fifo", mtime="2020-01-01T00:00:00.Z"), "not an RFC 3339 time"),
        (node("x", "fifo", extended_attributes=[ExtendedAttribute("", b"")]), "extended attribute"),
        (node("x", "fifo", extended_attributes=[ExtendedAttribute("user.a\0", b"")]), "extended attribute"),
    ],
)
def test_an_impossible_node_costs_only_itself(tmp_path: Path, bad: Node, says: str) -> None:
    reader = MemoryReader()
    listener = Listener()
    run(reader, reader.tree(reader.file("a", b"1"), bad, reader.file("z", b"2")), tmp_path, listener)
    assert list(listener.errors) == ["/x"] and says in listener.errors["/x"]
    assert sorted(os.listdir(tmp_path)) == ["a", "z"]


def test_a_name_listed_twice_is_restored_once(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.file("x", b"first"), node("x", "symlink", linktarget="/etc"), reader.folder("x", reader.file("y", b"2"))
    )
    listener = Listener()
    summary = restore(reader, root, RestoreOptions(target=tmp_path), listener)
    assert summary.errors == 2 and "twice" in listener.errors["/x"]
    assert (tmp_path / "x").read_bytes() == b"first"


def test_sizes_that_disagree_with_the_blobs_are_refused(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(
        reader.file("big", BIG, size=len(BIG) - 1), reader.file("one", b"1234", size=5), reader.file("ok", BIG)
    )
    listener = Listener()
    run(reader, root, tmp_path, listener)
    assert set(listener.errors) == {"/big", "/one"}
    assert all("but the tree says" in text for text in listener.errors.values())
    assert os.listdir(tmp_path) == ["ok"]


def test_damage_costs_only_the_files_that_need_it(tmp_path: Path) -> None:
    reader = MemoryReader()
    files = [reader.file(f"f{n:03}", b"content %d" % n * 2000) for n in range(50)]
    group = {"links": 2, "inode": 5, "device_id": 6}
    root = reader.tree(
        *files,
        reader.file("l1", b"gone", **group),
        reader.file("l2", b"gone", **group),
        reader.folder("z", reader.file("y")),
    )
    del reader.blobs[BlobType.DATA, BlobId(bytes.fromhex(files[7].content[1]))]  # type: ignore[index]
    reader.blobs[BlobType.DATA, BlobId(bytes.fromhex(files[9].content[0]))] = b"flipped"  # type: ignore[index]
    del reader.blobs[BlobType.DATA, blob_id(b"gone")]
    listener = Listener()
    run(reader, root, tmp_path, listener)
    assert set(listener.errors) == {"/f007", "/f009", "/l1", "/l2"}
    assert "hard link to /l1" in listener.errors["/l2"]
    assert len(os.listdir(tmp_path)) == 49


def test_a_broken_tree_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    reader = MemoryReader()
    lost = reader.folder("lost", reader.file("f", b"1"))
    garbled = node("garbled", "dir", subtree=reader.add(BlobType.TREE, b"{not json"), mode=0o750 | 1 << 31)
    root = reader.tree(garbled, reader.folder("good", reader.file("f", b"2")), lost)
    del reader.blobs[BlobType.TREE, BlobId(bytes.fromhex(lost.subtree))]
    listener = Listener()
    run(reader, root, tmp_path, listener)
    assert set(listener.errors) == {"/garbled", "/lost"}
    assert garbled.subtree[:10] in listener.errors["/garbled"]
    assert (tmp_path / "good/f").read_bytes() == b"2"
    assert stat.S_IMODE(os.stat(tmp_path / "garbled").st_mode) == 0o750
    with pytest.raises(NotFoundError):
        run(reader, blob_id(b"no such root"), tmp_path)


def test_a_tree_of_any_depth_neither_recurses_nor_runs_out_of_descriptors(tmp_path: Path) -> None:
    reader = MemoryReader()
    below = [reader.file("bottom", b"deep")]
    for _ in range(6000):
        below = [reader.folder("d", *below)]
    listener = Listener()
    restore(reader, reader.tree(*below), RestoreOptions(target=tmp_path), listener)
    assert len(listener.errors) == 1 and "folders deep" in next(iter(listener.errors.values()))
    fd, depth = os.open(tmp_path, os.O_RDONLY), 0
    while True:
        try:
            fd, above = os.open("d", os.O_RDONLY, dir_fd=fd), fd
        except FileNotFoundError:
            break
        os.close(above)
        depth += 1
    os.close(fd)
    assert depth == restoring.MAX_DEPTH
    remove_deep(tmp_path)


def remove_deep(path: Path) -> None:
    """rm, because pytest's own cleaning up recurses."""
    os.spawnlp(os.P_WAIT, "rm", "rm", "-rf", str(path / "d"))


class UnreachableReader(MemoryReader):
    def read(self, type_: BlobType, id_: BlobId) -> bytes:
        if type_ is BlobType.DATA and len(self.requested) > 3:
            raise RemoteError("the storage went away")
        return super().read(type_, id_)


def test_a_lost_repository_ends_the_restore_without_half_files(tmp_path: Path) -> None:
    reader = UnreachableReader()
    root = reader.tree(*(reader.file(f"f{n}", os.urandom(20_000)) for n in range(5)))
    with pytest.raises(RemoteError, match="went away"):
        run(reader, root, tmp_path)
    assert all(path.stat().st_size == 20_000 for path in tmp_path.iterdir())


def test_a_full_target_ends_the_restore_and_says_how_to_go_on(tmp_path: Path) -> None:
    reader = MemoryReader()
    root = reader.tree(*(reader.file(f"f{n}", os.urandom(9000) * 100) for n in range(5)))
    disk = tmp_path / "disk"
    disk.mkdir()
    assert os.spawnlp(os.P_WAIT, "mount", "mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)) == 0
    try:
        with pytest.raises(StorageFullError, match="make room"):
            run(reader, root, disk)
        assert not leftovers(disk)
        assert all(path.stat().st_size == 900_000 for path in disk.iterdir())
    finally:
        os.spawnlp(os.P_WAIT, "umount", "umount", str(disk))


def test_an_unusable_target_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    reader = MemoryReader()
    with pytest.raises(UserError, match="choose another target"):
        run(reader, reader.tree(), tmp_path / "file")


NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: name not in (b".", b"..") and not {0, 47} & set(name))
CONTENTS = st.binary(max_size=30).flatmap(lambda data: st.sampled_from([data, data * 1500, bytes(len(data) * 900)]))
TREES = st.recursive(
    st.dictionaries(NAMES, CONTENTS, max_size=5),
    lambda inner: st.dictionaries(NAMES, st.one_of(CONTENTS, inner), max_size=4),
    max_leaves=12,
)


def archive(reader: MemoryReader, tree: dict[bytes, object]) -> list[Node]:
    return [
        reader.folder(name, *archive(reader, item)) if isinstance(item, dict) else reader.file(name, item)  # type: ignore[arg-type]
        for name, item in sorted(tree.items())
    ]


def read_tree(path: bytes) -> dict[bytes, object]:
    found: dict[bytes, object] = {}
    for name in os.listdir(path):
        inner = os.path.join(path, name)
        if os.path.isdir(inner):
            found[name] = read_tree(inner)
        else:
            with open(inner, "rb") as file:
                found[name] = file.read()
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, sparse=st.booleans(), verify=st.booleans())
def test_restoring_what_was_archived_gives_it_back(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[bytes, object], sparse: bool, verify: bool
) -> None:
    reader = MemoryReader()
    target = tmp_path_factory.mktemp("target")
    run(reader, reader.tree(*archive(reader, tree)), target, sparse=sparse, verify=verify)
    assert read_tree(os.fsencode(target)) == tree
