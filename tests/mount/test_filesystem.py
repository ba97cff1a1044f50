from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import ExtendedAttribute, Node
from cdr_plugin.mount.filesystem import Limits, VersionFiles
from cdr_plugin.mount.source import Source
from tests.mount.world import Clock, Listener, MemoryRepository
from tests.restore.memory_reader import TIME_NS, node

DATA = random.Random(3).randbytes(95_000)  # ten blobs


class World:
    """A mount of a repository; ``at`` is the path of something in its first version."""

    def __init__(self, repository: MemoryRepository, limits: Limits | None) -> None:
        self.listener = Listener()
        self.source = Source(repository, lambda version: True, self.listener, Clock())
        self.files = VersionFiles(self.source, self.listener, limits=limits)

    def at(self, path: str) -> str:
        return "/ids/00000000" + path


@pytest.fixture
def repository() -> MemoryRepository:
    return MemoryRepository()


Mount = Callable[..., World]


@pytest.fixture
def mount(repository: MemoryRepository) -> Iterator[Mount]:
    worlds: list[World] = []

    def make(*nodes: Node, limits: Limits | None = None) -> World:
        repository.add(repository.reader.tree(*nodes))
        worlds.append(World(repository, limits))
        return worlds[-1]

    yield make
    for world in worlds:
        world.files.close()
        world.source.__exit__(None, None, None)
    assert repository.locks == 0


def _fails(number: int, act: Callable[[], object]) -> None:
    with pytest.raises(OSError) as raised:
        act()
    assert raised.value.errno == number


def test_every_kind_of_node_shows_all_that_stat_can_say(mount: Mount, repository: MemoryRepository) -> None:
    owner = {"uid": 11, "gid": 22}
    world = mount(
        repository.reader.file(b"f", b"x" * 700, mode=0o640 | 1 << 23, links=1, atime="2021-01-01T00:00:00Z", **owner),
        repository.reader.folder(b"d", mode=0o750 | 1 << 31 | 1 << 20, **owner),
        node("l", "symlink", linktarget="där", mode=0o777 | 1 << 27, **owner),
        node("p", "fifo", mode=0o600 | 1 << 25),
        node("b", "dev", mode=0o660 | 1 << 26, device=os.makedev(7, 200)),
        node("c", "chardev", mode=0o600 | 1 << 26 | 1 << 21, device=os.makedev(1, 3)),
    )
    file = world.files.lookup(world.at("/f"))
    assert (file.mode, file.size, file.blocks, file.links) == (stat.S_IFREG | 0o4640, 700, 2, 1)
    assert (file.uid, file.gid, file.mtime_ns, file.ctime_ns) == (11, 22, TIME_NS, TIME_NS)
    assert file.atime_ns == 1609459200 * 10**9
    assert world.files.lookup(world.at("/d")).mode == stat.S_IFDIR | 0o1750
    link = world.files.lookup(world.at("/l"))
    assert (link.mode, link.size) == (stat.S_IFLNK | 0o777, 4)
    assert world.files.readlink(world.at("/l")) == "där".encode()
    assert world.files.lookup(world.at("/p")).mode == stat.S_IFIFO | 0o600
    block, char = (world.files.lookup(world.at(path)) for path in ("/b", "/c"))
    assert (block.mode, block.device) == (stat.S_IFBLK | 0o660, os.makedev(7, 200))
    assert (char.mode, char.device) == (stat.S_IFCHR | 0o600, os.makedev(1, 3))


def test_folders_list_their_entries_with_attributes_in_the_order_of_the_tree(
    mount: Mount, repository: MemoryRepository
) -> None:
    inside = [repository.reader.file(name, b"x") for name in (b"a", b"b\\c", "ü".encode(), b"\xff")]
    world = mount(repository.reader.folder(b"d", *inside))
    listed = list(world.files.readdir(world.at("/d")))
    assert [name.encode("utf-8", "surrogateescape") for name, _ in listed] == [b"a", b"b\\c", "ü".encode(), b"\xff"]
    for name, attributes in listed:
        assert attributes == world.files.lookup(world.at("/d/" + name))


def test_the_folders_above_versions_can_be_walked_to_the_files(mount: Mount, repository: MemoryRepository) -> None:
    world = mount(repository.reader.file(b"f", b"hello"))
    assert [name for name, _ in world.files.readdir("/")] == ["ids", "snapshots", "hosts", "tags"]
    root = world.files.lookup("/")
    assert (root.mode, root.mtime_ns) == (stat.S_IFDIR | 0o555, 1704103200 * 10**9)
    assert world.files.readlink("/hosts/h/latest") == b"2024-01-01T10:00:00Z"
    latest = world.files.lookup("/snapshots/latest")
    assert (latest.mode, latest.size) == (stat.S_IFLNK | 0o777, 20)
    handle = world.files.open("/hosts/h/2024-01-01T10:00:00Z/f")
    assert world.files.read("", handle, 100, 0) == b"hello"
    assert dict(world.files.readdir("/tags")) == {}


def test_what_is_not_there_or_of_another_kind_has_the_number_that_says_so(
    mount: Mount, repository: MemoryRepository
) -> None:
    world = mount(repository.reader.file(b"f"), repository.reader.folder(b"d"), node("l", "symlink", linktarget="f"))
    files = world.files
    _fails(errno.ENOENT, lambda: files.lookup("/nothing"))
    _fails(errno.ENOENT, lambda: files.lookup("/ids/nothing"))
    _fails(errno.ENOENT, lambda: files.lookup(world.at("/nothing")))
    _fails(errno.ENOTDIR, lambda: files.lookup(world.at("/f/x")))
    _fails(errno.ENOTDIR, lambda: files.lookup("/snapshots/latest/x"))
    _fails(errno.ENOTDIR, lambda: list(files.readdir(world.at("/f"))))
    _fails(errno.ENOTDIR, lambda: list(files.readdir("/snapshots/latest")))
    _fails(errno.EINVAL, lambda: files.readlink(world.at("/f")))
    _fails(errno.EINVAL, lambda: files.readlink("/ids"))
    _fails(errno.EISDIR, lambda: files.open(world.at("/d")))
    _fails(errno.EISDIR, lambda: files.open("/ids"))
    assert not world.listener.errors


@pytest.mark.parametrize("blobs", [64 * 1024 * 1024, 1])
def test_any_part_of_a_file_is_read_right_whatever_is_remembered(
    mount: Mount, repository: MemoryRepository, blobs: int
) -> None:
    world = mount(repository.reader.file(b"f", DATA), limits=Limits(blobs=blobs, ahead=20_000))
    handle = world.files.open(world.at("/f"))
    source = random.Random(blobs)
    for _ in range(300):
        offset, size = source.randrange(len(DATA) + 100), source.randrange(40_000)
        assert world.files.read("", handle, size, offset) == DATA[offset : offset + size]
    whole = b"".join(world.files.read("", handle, 7000, offset) for offset in range(0, len(DATA) + 7000, 7000))
    assert whole == DATA
    world.files.release(handle)


def test_many_threads_read_many_files_through_a_small_cache(mount: Mount, repository: MemoryRepository) -> None:
    contents = {f"f{number}": random.Random(number).randbytes(60_000) for number in range(6)}
    files = [repository.reader.file(name.encode(), data) for name, data in contents.items()]
    world = mount(*files, limits=Limits(folders=1, blobs=25_000, ahead=20_000))

    def read_all(seed: int) -> int:
        right = 0
        for name, data in random.Random(seed).sample(list(contents.items()), len(contents)):
            handle = world.files.open(world.at(f"/{name}"))
            parts = [world.files.read("", handle, 4096, offset) for offset in range(0, len(data), 4096)]
            world.files.release(handle)
            right += b"".join(parts) == data
        return right

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(read_all, range(6))) == [len(contents)] * 6


def test_a_read_in_the_middle_fetches_only_the_blobs_that_hold_it(mount: Mount, repository: MemoryRepository) -> None:
    world = mount(repository.reader.file(b"f", DATA))
    content = repository.reader.file(b"f", DATA).content
    assert content
    fetched: list[bytes] = []
    read = repository.reader.read

    def note(type_: BlobType, id_: BlobId) -> bytes:
        if type_ is BlobType.DATA:
            fetched.append(id_)
        return read(type_, id_)

    repository.reader.read = note  # type: ignore[method-assign]
    handle = world.files.open(world.at("/f"))
    assert world.files.read("", handle, 10, 0) == DATA[:10]
    assert world.files.read("", handle, 12_000, 55_000) == DATA[55_000:67_000]
    world.files.close()
    # The second read goes on nearby, as the kernel's do, so that what is behind it was fetched too.
    assert [id_.hex() for id_ in fetched[:1]] == content[:1]
    assert {id_.hex() for id_ in fetched} <= {content[0], *content[5:]}


def test_what_is_broken_is_an_input_error_and_told(mount: Mount, repository: MemoryRepository) -> None:
    lost, gone = repository.reader.file(b"lost", DATA), repository.reader.file(b"gone", b"only")
    folder = repository.reader.folder(b"d", repository.reader.file(b"inside"))
    world = mount(lost, gone, folder, node("bad", "dir", subtree="xy"))
    assert lost.content and gone.content
    repository.reader.lose(BlobType.DATA, lost.content[3])
    repository.reader.lose(BlobType.TREE, folder.subtree)
    _fails(errno.EIO, lambda: world.files.open(world.at("/lost")))
    handle = world.files.open(world.at("/gone"))
    repository.reader.lose(BlobType.DATA, gone.content[0])
    _fails(errno.EIO, lambda: world.files.read(world.at("/gone"), handle, 10, 0))
    _fails(errno.EIO, lambda: list(world.files.readdir(world.at("/d"))))
    _fails(errno.EIO, lambda: world.files.lookup(world.at("/d/inside")))
    _fails(errno.EIO, lambda: list(world.files.readdir(world.at("/bad"))))
    assert {path.removeprefix(world.at("")) for path in world.listener.errors} == {
        "/lost", "/gone", "/d", "/d/inside", "/bad",
    }  # fmt: skip
    assert world.files.lookup(world.at("/d")).mode == stat.S_IFDIR | 0o755


def test_hostile_trees_show_what_can_be_shown(mount: Mount, repository: MemoryRepository) -> None:
    world = mount(
        node("../up", "file", content=[]),
        node("..", "dir"),
        repository.reader.file(b"twice", b"first"),
        repository.reader.file(b"twice", b"second one"),
        node("odd", "whatever"),
        node("wild", "file", content=[], uid=-1, gid=1 << 40, size=-5, links=1 << 60, mtime="never", device=-1),
        node("nocontent", "file"),
    )
    found = dict(world.files.readdir(world.at("/")))
    assert list(found) == ["twice", "wild", "nocontent"]
    assert found["twice"].size == 5
    wild = found["wild"]
    assert (wild.uid, wild.gid, wild.size, wild.mtime_ns) == (65534, 65534, 0, 0)
    _fails(errno.EIO, lambda: world.files.open(world.at("/nocontent")))
    _fails(errno.EIO, lambda: world.files.lookup(world.at("/odd")))


def test_names_of_one_file_share_an_inode_and_others_do_not(mount: Mount, repository: MemoryRepository) -> None:
    linked = {"links": 3, "inode": 7, "device_id": 1}
    world = mount(
        repository.reader.file(b"a", b"same", **linked),
        repository.reader.file(b"b", b"same", **linked),
        repository.reader.file(b"c", b"inode used again", **linked),
        repository.reader.file(b"d", b"same"),
    )
    a, b, c, d = (world.files.lookup(world.at(f"/{name}")) for name in "abcd")
    assert (a.inode, a.links) == (b.inode, 3)
    assert len({a.inode, c.inode, d.inode, world.files.lookup("/").inode}) == 4


def test_attributes_come_as_they_are(mount: Mount, repository: MemoryRepository) -> None:
    held = [ExtendedAttribute("user.a", b"\0\xff"), ExtendedAttribute("", b"x"), ExtendedAttribute("a\0b", b"y")]
    world = mount(repository.reader.file(b"f", extended_attributes=held), repository.reader.file(b"g"))
    assert world.files.xattrs(world.at("/f")) == {"user.a": b"\0\xff"}
    assert world.files.xattrs(world.at("/g")) == world.files.xattrs("/ids") == {}


def test_root_owns_everything_if_asked(repository: MemoryRepository) -> None:
    repository.add(repository.reader.tree(repository.reader.file(b"f", uid=5, gid=6)))
    with Source(repository, lambda version: True, Listener()) as source:
        files = VersionFiles(source, Listener(), owner_root=True)
        for path in ("/ids/00000000/f", "/ids", "/snapshots/latest"):
            attributes = files.lookup(path)
            assert (attributes.uid, attributes.gid) == (0, 0)
        files.close()


def test_folders_are_read_once_and_forgotten_when_they_are_many(mount: Mount, repository: MemoryRepository) -> None:
    folders = [repository.reader.folder(b"%03d" % at, repository.reader.file(b"f", b"%d" % at)) for at in range(50)]
    world = mount(*folders, limits=Limits(folders=100_000))
    for _ in range(3):
        world.files.lookup(world.at("/007/f"))
    assert len(repository.reader.trees) == 2
    for at in [*range(50), 7]:
        world.files.lookup(world.at(f"/{at:03}/f"))
    assert len(repository.reader.trees) == 2 + 49 + 1, "one of the first ones was forgotten"
