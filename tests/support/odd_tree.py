"""A folder with every kind of node and every oddity that a backup must carry. Needs root and Linux."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

ODD_NAMES: Sequence[bytes] = (
    b"plain",
    b"with space",
    b" leading and trailing ",
    b'quote"quote',
    b"back\\slash",
    b"\\x41 looks escaped",
    b"new\nline",
    b"tab\tbell\acr\r",
    b"control\x01\x1f\x7f",
    b"<html>&amp;",
    b"single'quote",
    b"-dash",
    b"~tilde",
    b"star*question?[bracket]",
    b".hidden",
    b"...",
    "ümläut-日本語-🎉".encode(),
    "nbsp\u00a0zwsp\u200bbom\ufeff".encode(),
    "line\u2028para\u2029".encode(),
    "private\ue000 tag\U000e0041".encode(),
    "e\u0301 decomposed".encode(),
    "replacement \ufffd".encode(),
    b"latin1 \xe9\xe8",
    b"truncated \xe2\x82",
    b"overlong \xc0\xaf",
    b"surrogate \xed\xa0\x80",
    b"\xff\xfe",
    b"n" * 255,
)
"""Names that quoting, sorting or decoding could get wrong; sort order is not name order here."""

_PRE_1970_NS = -1_234_567_890 * 10**9 + 123_456_789
_BEFORE_EPOCH_NS = -1
_FRACTION_NS = 1_600_000_000 * 10**9 + 100_000_000
_YEAR_2381_NS = 12_970_000_000 * 10**9 + 999_999_999
_ODD_TIMES: Sequence[int] = (_PRE_1970_NS, _BEFORE_EPOCH_NS, 0, 1, _FRACTION_NS, _YEAR_2381_NS)

UNKNOWN_UID = 3_999_999_999
UNKNOWN_GID = 3_888_888_888
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF


def acl(*entries: tuple[int, int, int]) -> bytes:
    """The xattr form of a POSIX ACL from (tag, permissions, id), in ascending order of tag."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


ACCESS_ACL = acl(
    (_USER_OBJ, 6, _NO_ID),
    (_USER, 4, 1234),
    (_GROUP_OBJ, 4, _NO_ID),
    (_GROUP, 6, 4321),
    (_MASK, 6, _NO_ID),
    (_OTHER, 0, _NO_ID),
)
DEFAULT_ACL = acl(
    (_USER_OBJ, 7, _NO_ID), (_USER, 5, 1234), (_GROUP_OBJ, 5, _NO_ID), (_MASK, 5, _NO_ID), (_OTHER, 0, _NO_ID)
)


def make_odd_tree(path: Path | str) -> None:
    """Make the new folder ``path``; the same content every time, up to inode numbers."""
    root = os.fsencode(path)
    os.makedirs(root)
    for name, make in _PARTS:
        part = os.path.join(root, name)
        os.mkdir(part)
        make(part)
    _settle_times(root)


def _write(path: bytes, data: bytes = b"x") -> None:
    with open(path, "wb") as file:
        file.write(data)


def _names(at: bytes) -> None:
    for number, name in enumerate(ODD_NAMES):
        _write(os.path.join(at, name), b"file %d" % number)
        if len(name) < 255:
            folder = os.path.join(at, name + b".d")
            os.mkdir(folder)
            _write(os.path.join(folder, b"inside"), name)


def _symlinks(at: bytes) -> None:
    odd = (b"new\nline", "ümläut".encode(), b"<&>", b"y" * 4000)
    for number, target in enumerate((b"plain", b"../names/plain", b"/etc/passwd", b"nowhere", *odd)):
        os.symlink(target, os.path.join(at, b"link%d" % number))
    os.symlink(b"not utf8 \xff\xe9", os.path.join(at, b"raw"))
    os.symlink(b".", os.path.join(at, b"loop"))
    owned = os.path.join(at, b"owned")
    os.symlink(b"target", owned)
    os.chown(owned, 1111, 2222, follow_symlinks=False)
    attributed = os.path.join(at, b"attributed")
    os.symlink(b"target", attributed)
    os.setxattr(attributed, b"trusted.cdr", b"on a link", follow_symlinks=False)


def _special(at: bytes) -> None:
    os.mkfifo(os.path.join(at, b"fifo"), 0o640)
    for name, kind, device in (
        (b"block", stat.S_IFBLK | 0o660, os.makedev(7, 200)),
        (b"char", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        (b"big", stat.S_IFBLK | 0o600, os.makedev(259, 70000)),
    ):
        os.mknod(os.path.join(at, name), kind, device)
        os.chown(os.path.join(at, name), 5, 6)


def _modes(at: bytes) -> None:
    for mode in (0, 0o1, 0o400, 0o444, 0o600, 0o644, 0o755, 0o777, 0o4755, 0o2755, 0o1644, 0o6711, 0o7777):
        file = os.path.join(at, b"f%04o" % mode)
        _write(file, b"mode")
        os.chmod(file, mode)
        folder = os.path.join(at, b"d%04o" % mode)
        os.mkdir(folder)
        _write(os.path.join(folder, b"inside"))
        os.chmod(folder, mode)


def _owners(at: bytes) -> None:
    for number, (uid, gid) in enumerate(((0, 0), (1, 2), (UNKNOWN_UID, UNKNOWN_GID), (0, UNKNOWN_GID))):
        file = os.path.join(at, b"f%d" % number)
        _write(file, b"owner")
        os.chown(file, uid, gid)
        os.chmod(file, 0o6755)
        folder = os.path.join(at, b"d%d" % number)
        os.mkdir(folder)
        os.chown(folder, uid, gid)


def _hard_links(at: bytes) -> None:
    for name, data in ((b"full", b"shared bytes"), (b"empty", b"")):
        first = os.path.join(at, name + b"-a")
        _write(first, data)
        os.mkdir(os.path.join(at, name))
        for other in (name + b"-b", os.path.join(name, b"c"), os.path.join(name, b"d")):
            os.link(first, os.path.join(at, other))
    os.mknod(os.path.join(at, b"device-a"), stat.S_IFCHR | 0o600, os.makedev(1, 5))
    os.link(os.path.join(at, b"device-a"), os.path.join(at, b"device-b"))
    os.symlink(b"t", os.path.join(at, b"link-a"))
    os.link(os.path.join(at, b"link-a"), os.path.join(at, b"link-b"), follow_symlinks=False)


def _attributes(at: bytes) -> None:
    file = os.path.join(at, b"file")
    _write(file, b"attributed")
    os.setxattr(file, b"user.text", b"value")
    os.setxattr(file, b"user.binary", bytes(range(256)))
    os.setxattr(file, b"user.empty", b"")
    os.setxattr(file, "user.ümläut".encode(), b"<&>")
    os.setxattr(file, b"trusted.root", b"only")
    folder = os.path.join(at, b"folder")
    os.mkdir(folder)
    os.setxattr(folder, b"user.on", b"folder")
    readonly = os.path.join(at, b"readonly")
    _write(readonly)
    os.setxattr(readonly, b"user.x", b"1")
    os.chmod(readonly, 0o400)
    controlled = os.path.join(at, b"acl")
    _write(controlled)
    os.setxattr(controlled, b"system.posix_acl_access", ACCESS_ACL)
    inherited = os.path.join(at, b"default-acl")
    os.mkdir(inherited)
    _write(os.path.join(inherited, b"before"))  # made before the default ACL: must not inherit it
    os.mkdir(os.path.join(inherited, b"folder-before"))
    os.setxattr(inherited, b"system.posix_acl_default", DEFAULT_ACL)
    _write(os.path.join(inherited, b"after"))


def _contents(at: bytes) -> None:
    _write(os.path.join(at, b"empty"), b"")
    os.mkdir(os.path.join(at, b"empty-folder"))
    _write(os.path.join(at, b"one"), b"1")
    _write(os.path.join(at, b"zeros"), bytes(3 << 20))
    block = b"".join(b"%015d\n" % number for number in range(1 << 17))
    _write(os.path.join(at, b"several-blobs"), block * 4)
    _write(os.path.join(at, b"same-again"), block * 4)
    with open(os.path.join(at, b"sparse"), "wb") as file:
        file.truncate(9 << 20)
        file.seek(4_000_001)
        file.write(b"data in the middle")
    with open(os.path.join(at, b"hole-at-end"), "wb") as file:
        file.write(b"head")
        file.truncate(2 << 20)


def _times(at: bytes) -> None:
    for number, time_ns in enumerate(_ODD_TIMES):
        file = os.path.join(at, b"f%d" % number)
        _write(file, b"time")
        os.utime(file, ns=(time_ns, time_ns))
        link = os.path.join(at, b"l%d" % number)
        os.symlink(b"time", link)
        os.utime(link, ns=(time_ns, time_ns), follow_symlinks=False)
        folder = os.path.join(at, b"d%d" % number)
        os.mkdir(folder)
        _write(os.path.join(folder, b"inside"))
        os.utime(os.path.join(folder, b"inside"), ns=(time_ns, time_ns))
        os.utime(folder, ns=(time_ns, time_ns))


def _deep(at: bytes) -> None:
    for number in range(40):
        at = os.path.join(at, b"%d" % number)
        os.mkdir(at)
    _write(os.path.join(at, b"bottom"), b"deep")


_PARTS = (
    (b"attributes", _attributes),
    (b"contents", _contents),
    (b"deep", _deep),
    (b"hard-links", _hard_links),
    (b"modes", _modes),
    (b"names", _names),
    (b"owners", _owners),
    (b"special", _special),
    (b"symlinks", _symlinks),
    (b"times", _times),
)


def _settle_times(root: bytes) -> None:
    """Times that differ from node to node and from now, except where the tree chose them itself."""
    times = os.path.join(root, b"times")
    number = 0
    for folder, folders, files in os.walk(root, topdown=False):
        folders.sort()
        if folder.startswith(times + b"/"):
            continue
        names = [] if folder == times else sorted(files) + [n for n in folders if _is_link(folder, n)]
        for path in [os.path.join(folder, name) for name in names] + [folder]:
            number += 1
            stamp = 1_500_000_000 * 10**9 + number * 1_000_000_007
            os.utime(path, ns=(stamp, stamp), follow_symlinks=False)


def _is_link(folder: bytes, name: bytes) -> bool:
    return os.path.islink(os.path.join(folder, name))
