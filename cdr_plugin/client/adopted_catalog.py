"""A catalog made of the trees of an adopted version: which content a file had, and how it looked then.

Its trees never hold as they are (see ``_FORM``): a run over it builds each folder's tree from the file
system, and takes from here only the contents of files that are unchanged by restic's rule.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from cdr_plugin.archiver.catalog import RECHECK, CatalogWriter, Facts, comes_before, make_record
from cdr_plugin.errors import FormatError
from cdr_plugin.kernel import STAT_RECORD
from cdr_plugin.model.blobs import MAX_TREE_BLOB_BYTES, BlobType, blob_id
from cdr_plugin.model.names import unquote_name
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import Node, check_name, decode_tree, posix_permissions
from cdr_plugin.parcel.limits import MAX_PATH_CHARS

_RECORD = struct.Struct(">IQ")
"""Lengths of path and tree, see docs/wire-format.md."""
_FORM = "adopted"
"""The form of no run: whatever the trees of this catalog depended on is not known here."""
_TYPES = {
    "file": stat.S_IFREG,
    "dir": stat.S_IFDIR,
    "symlink": stat.S_IFLNK,
    "dev": stat.S_IFBLK,
    "chardev": stat.S_IFCHR,
    "fifo": stat.S_IFIFO,
}
_DATA = bytes((BlobType.DATA,))
_TREE = bytes((BlobType.TREE,))


def write_catalog(path: Path, pieces: Iterable[bytes], known: Container[bytes], made: str) -> None:
    """A catalog at ``path``, durable, from a stream of facts. FormatError when the stream is none.

    ``known``: keys of the blobs that a catalog may name. ``made``: when the version was begun (RFC 3339);
    what has changed since is read again.
    """
    begun = parse_time(made)
    with CatalogWriter(path, Facts(_FORM)) as writer:
        for key, tree in _folders(pieces):
            try:
                record = _record(key, tree, known, begun)
            except FormatError:
                continue  # its files are read again
            if record is not None:
                writer.add(record)
        writer.finish()


def _folders(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Path and tree of each folder; lengths are checked before anything of that length is kept."""
    buffer = bytearray()
    last: bytes | None = None
    for piece in pieces:
        buffer += piece
        at = 0
        while len(buffer) - at >= _RECORD.size:
            path_size, tree_size = _RECORD.unpack_from(buffer, at)
            if path_size > MAX_PATH_CHARS or tree_size > MAX_TREE_BLOB_BYTES:
                raise FormatError(f"facts: a path of {path_size} bytes with a tree of {tree_size}")
            begin = at + _RECORD.size
            end = begin + path_size + tree_size
            if end > len(buffer):
                break
            key = bytes(buffer[begin : begin + path_size])
            if last is not None and not comes_before(last, key):
                raise FormatError(f"facts: folder {key[:80]!r} is out of order")
            last = key
            yield key, bytes(buffer[begin + path_size : end])
            at = end
        del buffer[:at]
    if buffer:
        raise FormatError("facts: the stream ends within a folder")


def _record(key: bytes, tree: bytes, known: Container[bytes], begun: tuple[int, int]) -> bytes | None:
    """None for a folder whose tree is not known: it could not be left out of a version."""
    tree_id = blob_id(tree)
    if _TREE + tree_id not in known:
        return None
    names, stats, subtrees, counts, content = [], [], [], [], []
    file_bytes, dirty = 0, False
    for name, node in _entries(decode_tree(tree)):
        names.append(name)
        stats.append(_stat(node))
        if node.type == "dir":
            subtrees.append(_ids([node.subtree]))
        elif node.type == "file":
            ids = _ids(node.content or [])
            count = len(ids) // 32
            if not _all_known(ids, known):
                ids, count, dirty = b"", RECHECK, True
            elif not _is_settled(node, begun):
                count, dirty = count | RECHECK, True
            counts.append(count)
            content.append(ids)
            file_bytes += node.size
    return make_record(
        key=key,
        names=names,
        stats=b"".join(stats),
        tree=tree_id,
        subtrees=b"".join(subtrees),
        counts=counts,
        content=b"".join(content),
        file_bytes=file_bytes,
        dirty=dirty,
    )


def _entries(nodes: list[Node]) -> list[tuple[bytes, Node]]:
    """By raw name, ascending, each once."""
    found: dict[bytes, Node] = {}
    for node in nodes:
        if node.type in _TYPES:
            name = unquote_name(node.name)
            check_name(name)
            found[name] = node
    return sorted(found.items())


def _stat(node: Node) -> bytes:
    mtime_s, mtime_ns = parse_time(node.mtime)
    ctime_s, ctime_ns = parse_time(node.ctime)
    mode = _TYPES[node.type] | posix_permissions(node.mode)
    try:
        return STAT_RECORD.pack(
            mode,
            node.links,
            node.uid,
            node.gid,
            node.device_id,
            node.inode,
            node.device,
            node.size,
            mtime_s,
            ctime_s,
            mtime_ns,
            ctime_ns,
        )
    except struct.error:
        raise FormatError(f"facts: entry {node.name[:80]!r} has a number out of range") from None


def _is_settled(node: Node, begun: tuple[int, int]) -> bool:
    """Had the file come to rest a second before the version was begun? Else it may have been read before
    its last change, within one tick of the clock of file times."""
    return max(parse_time(node.mtime), parse_time(node.ctime)) < (begun[0] - 1, begun[1])


def _all_known(ids: bytes, known: Container[bytes]) -> bool:
    return all(_DATA + ids[at : at + 32] in known for at in range(0, len(ids), 32))


def _ids(hex_ids: list[str]) -> bytes:
    try:
        packed = b"".join(map(bytes.fromhex, hex_ids))
    except ValueError:
        packed = b""
    if len(packed) != 32 * len(hex_ids):
        raise FormatError("facts: an entry names what is no blob")
    return packed
