"""Compares two trees by everything that a backup must bring back."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

Facts: TypeAlias = dict[str, object]
"""type, mode, uid, gid, size, mtime_ns, xattrs, target, rdev, content (SHA-256), links: the
first path, in byte order, of the hard-linked group inside the tree."""

Ignore: TypeAlias = Callable[[bytes, str, Facts], bool]
"""(path, field, facts of the first tree): True when this field of this node may differ."""


def assert_same_tree(a: Path | str, b: Path | str, ignore: Ignore | None = None) -> None:
    """Fail with one line per difference. The roots themselves are compared as well (path ``.``)."""
    differences = list(tree_differences(a, b, ignore))
    assert not differences, f"{len(differences)} differences:\n" + "\n".join(differences[:50])


def tree_differences(a: Path | str, b: Path | str, ignore: Ignore | None = None) -> Iterator[str]:
    """One line per difference between the trees ``a`` and ``b``."""
    first, second = tree_facts(a), tree_facts(b)
    for path in sorted(first.keys() | second.keys()):
        if path not in second:
            yield f"{path!r}: only in {a}"
        elif path not in first:
            yield f"{path!r}: only in {b}"
        else:
            yield from _node_differences(path, first[path], second[path], ignore)


def _node_differences(path: bytes, first: Facts, second: Facts, ignore: Ignore | None) -> Iterator[str]:
    for field in first.keys() | second.keys():
        one, other = first.get(field), second.get(field)
        if one != other and not (ignore and ignore(path, field, first)):
            yield f"{path!r}: {field}: {one!r} != {other!r}"


def tree_facts(root: Path | str) -> dict[bytes, Facts]:
    """The facts of every node below ``root`` by relative path, and of ``root`` as ``.``."""
    base = os.fsencode(root)
    found: dict[bytes, Facts] = {}
    groups: dict[tuple[int, int], bytes] = {}
    for relative in _paths(base):
        path = os.path.join(base, relative)
        info = os.lstat(path)
        facts = _facts(path, info)
        if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
            facts["links"] = groups.setdefault((info.st_dev, info.st_ino), relative)
        found[relative] = facts
    return found


def _paths(base: bytes) -> list[bytes]:
    paths = [b"."]
    pending = [b""]
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(base, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                paths.append(path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
    return sorted(paths)


def _facts(path: bytes, info: os.stat_result) -> Facts:
    facts: Facts = {
        "type": stat.filemode(info.st_mode)[0],
        "mode": oct(stat.S_IMODE(info.st_mode)),
        "uid": info.st_uid,
        "gid": info.st_gid,
        "mtime_ns": info.st_mtime_ns,
        "xattrs": _xattrs(path),
    }
    if stat.S_ISREG(info.st_mode):
        facts["size"] = info.st_size
        facts["content"] = _content_hash(path)
    elif stat.S_ISLNK(info.st_mode):
        facts["target"] = os.readlink(path)
    elif stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode):
        facts["rdev"] = info.st_rdev
    return facts


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}


def _content_hash(path: bytes) -> str:
    digest = sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
