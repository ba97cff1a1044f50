"""Archives of folders, read back by tarfile, zipfile, GNU tar and unzip."""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cdr_plugin.errors import FormatError, NotFoundError
from cdr_plugin.look import contents
from cdr_plugin.look.acl import acl_text
from cdr_plugin.look.contents import Content, stream
from cdr_plugin.look.members import members
from cdr_plugin.look.tar import write_tar
from cdr_plugin.look.zip import write_zip
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import ExtendedAttribute
from tests.look.world import CountingReader, Reports
from tests.restore.memory_reader import node
from tests.support.odd_tree import ACCESS_ACL


@pytest.fixture
def reader() -> CountingReader:
    return CountingReader()


@pytest.fixture
def reports() -> Reports:
    return Reports()


def _tar(reader: CountingReader, root: BlobId, reports: Reports) -> bytes:
    sink = io.BytesIO()
    write_tar(reader, members(reader, root, "/", None, reports), sink, reports)
    return sink.getvalue()


def _zip(reader: CountingReader, root: BlobId, reports: Reports) -> tuple[zipfile.ZipFile, list[str]]:
    sink, notes = io.BytesIO(), list[str]()
    write_zip(reader, members(reader, root, "/", None, reports), sink, reports, notes.append)
    archive = zipfile.ZipFile(sink)
    assert archive.testzip() is None
    return archive, notes


def _opened(data: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape", encoding="utf-8")


def test_a_tar_holds_names_contents_and_numbers_of_any_size(reader: CountingReader, reports: Reports) -> None:
    root = reader.tree(
        reader.folder(b"d" * 200, reader.file(b"\xff" * 100, b"x" * 35_000, uid=3_999_999_999, mode=0o640 | 1 << 23)),
        reader.file(b"empty"),
        node("far", "file", content=[], mtime="2381-01-01T17:46:40.999999999Z"),
        node("old", "symlink", linktarget_raw=b"\xe9", linktarget="\ufffd", mtime="1930-11-18T00:28:30.123456789Z"),
    )
    archive = _opened(_tar(reader, root, reports))
    folder, odd, empty, far, old = archive.getmembers()
    assert folder.name == "d" * 200 and folder.isdir()
    assert odd.name.endswith("/" + "\udcff" * 100)
    assert (odd.uid, odd.mode, odd.size) == (3_999_999_999, 0o4640, 35_000)
    extracted = archive.extractfile(odd)
    assert extracted and extracted.read() == b"x" * 35_000
    assert (empty.size, empty.pax_headers["mtime"]) == (0, "1580702706.000000007")
    assert far.pax_headers["mtime"] == "12970000000.999999999"
    assert old.pax_headers["mtime"] == "-1234567889.876543211"
    assert old.linkname == "\udce9"
    assert not reports.errors


def test_further_names_of_a_file_are_links_but_not_where_the_inode_was_used_again(
    reader: CountingReader, reports: Reports
) -> None:
    linked = {"links": 2, "inode": 7, "device_id": 1}
    root = reader.tree(
        reader.file(b"a", b"same", **linked), reader.file(b"b", b"same", **linked), reader.file(b"c", b"new", **linked)
    )
    a, b, c = _opened(_tar(reader, root, reports)).getmembers()
    assert (a.isreg(), b.islnk(), b.linkname, b.size, c.isreg()) == (True, True, "a", 0, True)


def test_attributes_are_records_that_gnu_tar_reads(reader: CountingReader, reports: Reports) -> None:
    attributes = [
        ExtendedAttribute("user.odd=name%", b"\0\xff"),
        ExtendedAttribute("system.posix_acl_access", ACCESS_ACL),
    ]
    root = reader.tree(reader.file(b"f", extended_attributes=attributes))
    (member,) = _opened(_tar(reader, root, reports)).getmembers()
    assert member.pax_headers["SCHILY.xattr.user.odd%3Dname%25"] == "\0\udcff"
    assert member.pax_headers["SCHILY.acl.access"].startswith("user::rw-,user:1234:r--,group::r--,group:4321:rw-")


@pytest.mark.parametrize("value", [b"", b"\2\0\0", b"\3\0\0\0", b"\2\0\0\0" + bytes(7), b"\2\0\0\0" + bytes(8)])
def test_what_is_no_acl_is_refused(value: bytes) -> None:
    with pytest.raises(FormatError, match="access control list"):
        acl_text(value)


def test_what_does_not_fit_or_is_lost_is_reported_and_the_rest_is_whole(
    reader: CountingReader, reports: Reports
) -> None:
    lost = reader.file(b"lost", b"gone" * 10_000)
    twice = reader.file(b"twice", b"1")
    root = reader.tree(
        node("device", "dev", device=(1 << 60)),
        lost,
        node("nolist", "file"),
        node("socket", "socket"),
        reader.file(b"time", mtime="soon"),
        twice,
        reader.file(b"twice", b"2"),
        node("link", "symlink", linktarget="/etc"),
        node("l\\x69nk", "dir", subtree=reader.tree(reader.file(b"passwd")).hex()),
        reader.file(b"nobody", uid=-1),
        reader.file(b"zz", b"good"),
    )
    assert lost.content
    reader.lose(BlobType.DATA, lost.content[1])
    archive = _opened(_tar(reader, root, reports))
    assert archive.getnames() == ["twice", "link", "zz"]
    names = ("device", "link", "lost", "nobody", "nolist", "socket", "time", "twice")
    assert sorted(reports.errors) == [f"/{name}" for name in names]
    assert "cdr check" in reports.errors["/lost"]


def test_content_that_breaks_while_it_is_read_breaks_the_archive_off(reader: CountingReader, reports: Reports) -> None:
    file = reader.file(b"f", b"x" * 10)
    root = reader.tree(file)
    assert file.content
    inside = members(reader, root, "/", None, reports)
    found = list(inside)
    reader.lose(BlobType.DATA, file.content[0])
    sink = io.BytesIO()
    with pytest.raises(NotFoundError):
        write_tar(reader, found, sink, reports)
    assert not sink.getvalue().endswith(bytes(1024))


def test_gnu_tar_and_unzip_read_what_is_written(reader: CountingReader, reports: Reports, tmp_path: Path) -> None:
    root = reader.tree(
        reader.folder(b"d", reader.file(b"big", bytes(range(256)) * 300), reader.file("ü".encode(), b"u")),
        reader.file(b"empty"),
        node("link", "symlink", linktarget="d/big", mode=0o777 | 1 << 27),
        reader.file(b"run", b"#!/bin/sh\n", mode=0o755),
    )
    for name, command in (("tar", ["tar", "-xpf"]), ("zip", ["unzip", "-q"])):
        folder = tmp_path / name
        folder.mkdir()
        with (tmp_path / f"a.{name}").open("wb") as sink:
            inside = members(reader, root, "/", None, reports)
            if name == "tar":
                write_tar(reader, inside, sink, reports)
            else:
                write_zip(reader, inside, sink, reports, print)
        subprocess.run([*command, tmp_path / f"a.{name}"], cwd=folder, check=True)
        assert (folder / "link").read_bytes() == bytes(range(256)) * 300
        assert (folder / "link").is_symlink()
        assert (folder / "d/ü").read_bytes() == b"u"
        assert (folder / "empty").read_bytes() == b""
        assert (folder / "run").stat().st_mode & 0o777 == 0o755
        assert int((folder / "run").stat().st_mtime) == 1580702706


def test_a_zip_leaves_out_what_zip_does_not_know_and_spells_names_that_are_not_utf_8(
    reader: CountingReader, reports: Reports
) -> None:
    root = reader.tree(
        node("fifo", "fifo"),
        reader.file(b"latin \xe9", b"1"),
        reader.file(b"late", b"2", mtime="2381-01-01T00:00:00Z"),
        reader.file(b"long", bytes(70_000), mtime="1930-11-18T00:28:30Z"),
    )
    archive, notes = _zip(reader, root, reports)
    assert archive.namelist() == ["latin \\xe9", "late", "long"]
    assert archive.read("long") == bytes(70_000)
    assert notes == ["/fifo: a zip archive cannot hold a fifo; left out"]
    assert not reports.errors


@pytest.mark.parametrize("link_first", [True, False])
def test_a_zip_has_no_link_and_folder_that_are_spelled_the_same(
    reader: CountingReader, reports: Reports, link_first: bool
) -> None:
    link = node("\\\\xff", "symlink", linktarget="/etc")
    folder = reader.folder(b"\xff", reader.file(b"passwd", b"x"), reader.file(b"caf\xc3\xa9\\\xfe", b"y"))
    archive, _ = _zip(reader, reader.tree(*((link, folder) if link_first else (folder, link))), reports)
    if link_first:
        assert archive.namelist() == ["\\xff"]
        assert sorted(reports.errors) == ["/\udcff", "/\udcff/caf\xe9\\\udcfe", "/\udcff/passwd"]
    else:
        assert archive.namelist() == ["\\xff/", "\\xff/passwd", "\\xff/caf\xe9\\\\\\xfe"]
        assert list(reports.errors) == ["/\\xff"]
    assert all("spelled the same" in error for error in reports.errors.values())


def test_paths_that_are_too_long_for_a_zip_are_reported(reader: CountingReader, reports: Reports) -> None:
    deep = reader.file(b"deep", b"x")
    for _ in range(257):
        deep = reader.folder(b"d" * 255, deep)
    archive, _ = _zip(reader, reader.tree(deep, reader.file(b"last", b"y")), reports)
    assert len(archive.namelist()) == 256 and archive.read("last") == b"y"
    assert len(reports.errors) == 3 and all("65535 bytes" in error for error in reports.errors.values())


def test_the_folder_itself_comes_first_with_its_path(reader: CountingReader, reports: Reports) -> None:
    folder = reader.folder(b"b", reader.file(b"c"), mode=0o711 | 1 << 31)
    tree = BlobId(bytes.fromhex(folder.subtree))
    found = [member.path for member, _ in members(reader, tree, "/a/b", folder, reports)]
    assert found == ["a/b", "a/b/c"]


class Watchful(CountingReader):
    """Remembers how many bytes each window asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: list[int] = []

    def read_many(self, type_: BlobType, ids: Sequence[BlobId]) -> Iterator[tuple[BlobId, bytes]]:
        self.windows.append(sum(len(self.blobs[type_, id_]) for id_ in ids))
        return super().read_many(type_, ids)


def test_contents_come_in_order_in_windows_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "WINDOW_BYTES", 40_000)
    monkeypatch.setattr(contents, "WINDOW_STEPS", 50)
    reader = Watchful()
    data = [b"%06d" % number * number for number in range(0, 30_000, 1000)] + [b"same" * 20_000] * 3 + [b""] * 200
    files = [reader.file(b"f", part) for part in data]
    joined: list[bytes] = []
    for item, part in stream(reader, ((number, Content(reader, file)) for number, file in enumerate(files))):
        if item is not None:
            assert item == len(joined)
            joined.append(b"")
        else:
            joined[-1] += part
    assert joined == data
    assert max(reader.windows) < 40_000 + 10_000
    assert len(reader.windows) > 20


def test_many_small_files_are_fetched_together() -> None:
    reader = Watchful()
    files = [reader.file(b"f", b"%d" % number) for number in range(1000)]
    steps = list(stream(reader, ((number, Content(reader, file)) for number, file in enumerate(files))))
    assert len(steps) == 2000
    assert len(reader.windows) == 1
