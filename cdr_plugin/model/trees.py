"""Trees: directory listings as blobs, byte for byte in the canonical JSON of restic 0.19.

A tree blob is ``{"nodes":[...]}`` and a newline. Field order is the order of the classes below;
fields with defaults are left out when they are zero or empty, ``content`` never is.
"""

from __future__ import annotations

import secrets
import stat
from collections.abc import Iterable, Sequence

import msgspec

from cdr_plugin.errors import FormatError
from cdr_plugin.model.blobs import BlobId, Buffer
from cdr_plugin.model.names import quote_name, unquote_name
from cdr_plugin.model.times import check_time

EMPTY_TREE = b'{"nodes":[]}\n'
NODE_TYPES = frozenset({"file", "dir", "symlink", "dev", "chardev", "fifo", "socket"})

# Go's os.FileMode bits, where they differ from the permission bits of POSIX.
GO_DIR = 1 << 31
GO_SYMLINK = 1 << 27
GO_DEVICE = 1 << 26
GO_FIFO = 1 << 25
GO_SOCKET = 1 << 24
GO_SETUID = 1 << 23
GO_SETGID = 1 << 22
GO_CHARDEV = 1 << 21
GO_STICKY = 1 << 20

_GO_TYPE = {
    stat.S_IFREG: 0,
    stat.S_IFDIR: GO_DIR,
    stat.S_IFLNK: GO_SYMLINK,
    stat.S_IFBLK: GO_DEVICE,
    stat.S_IFCHR: GO_DEVICE | GO_CHARDEV,
    stat.S_IFIFO: GO_FIFO,
    stat.S_IFSOCK: GO_SOCKET,
}


class ExtendedAttribute(msgspec.Struct):
    """One xattr; ``value`` is base64 in JSON."""

    name: str
    value: bytes


class Node(msgspec.Struct, omit_defaults=True, kw_only=True):
    """One entry of a tree. ``name`` is quoted (``names.quote_name``), times are RFC 3339 text,
    ``content`` and ``subtree`` hold blob IDs as hex."""

    name: str
    type: str
    mode: int = 0
    mtime: str
    atime: str
    ctime: str
    uid: int
    gid: int
    user: str = ""
    group: str = ""
    inode: int = 0
    device_id: int = 0
    size: int = 0
    links: int = 0
    linktarget: str = ""
    linktarget_raw: bytes = b""
    extended_attributes: list[ExtendedAttribute] = []
    generic_attributes: msgspec.Raw = msgspec.Raw(b"")
    device: int = 0
    content: list[str] | None
    subtree: str = ""
    error: str = ""


class _Tree(msgspec.Struct):
    nodes: Sequence[Node]


# Stands for one invalid byte of a link target while encoding; random, so that no target holds it.
_INVALID = secrets.token_hex(16)

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Tree)


def encode_tree(nodes: Sequence[Node]) -> bytes:
    """The tree blob of ``nodes``, which must already ascend by raw name."""
    encoded = _encoder.encode(_Tree(nodes))
    if b'"linktarget_raw":' in encoded:
        encoded = _encoder.encode(_Tree([_mark_invalid(node) for node in nodes]))
        encoded = encoded.replace(_INVALID.encode(), b"\\ufffd")
    return go_json(encoded) + b"\n"


def _mark_invalid(node: Node) -> Node:
    """Go escapes the U+FFFD that it writes for an invalid byte, but not one that was there before."""
    if not node.linktarget_raw or node.linktarget != link_target_text(node.linktarget_raw):
        return node
    return msgspec.structs.replace(node, linktarget=link_target_text(node.linktarget_raw, _INVALID))


def link_target_text(target: bytes, invalid: str = "\ufffd") -> str:
    """``linktarget`` for the bytes of a link's target: each byte that is not UTF-8 becomes ``invalid``."""
    text = target.decode("utf-8", "surrogateescape")
    return "".join(invalid if "\udc80" <= char <= "\udcff" else char for char in text)


def go_json(encoded: bytes) -> bytes:
    """JSON as Go's encoder writes it; the characters that differ never occur outside strings."""
    if b"<" in encoded:
        encoded = encoded.replace(b"<", b"\\u003c")
    if b">" in encoded:
        encoded = encoded.replace(b">", b"\\u003e")
    if b"&" in encoded:
        encoded = encoded.replace(b"&", b"\\u0026")
    if b"\xe2\x80" in encoded:
        encoded = encoded.replace(b"\xe2\x80\xa8", b"\\u2028").replace(b"\xe2\x80\xa9", b"\\u2029")
    return encoded


def decode_tree(data: Buffer) -> list[Node]:
    """The nodes of a tree blob, as lenient as restic reads; FormatError when it is none."""
    try:
        return list(_decoder.decode(data).nodes)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"tree: {error}") from None


def decode_canonical_tree(data: Buffer) -> list[Node]:
    """The nodes of a tree blob that restic can read, rewrite and restore.

    Stricter than ``decode_tree``: encoding the result again gives the same bytes, names are plain
    components in strictly ascending order, every node has what its type needs. What a foreign
    client sent must pass here before it is stored. Which characters beyond ASCII a name escapes is
    left open, since that depends on the version of Unicode that its writer knew.
    """
    nodes = decode_tree(data)
    if encode_tree(nodes) != data:
        raise FormatError("tree: not in canonical form")
    previous = b""
    for node in nodes:
        name = unquote_name(node.name)
        check_name(name)
        odd = "\\" in node.name or not node.name.isprintable()
        if odd and name.isascii() and quote_name(name) != node.name:
            raise FormatError(f"tree: entry {node.name!r} is not quoted as restic does")
        if name <= previous:
            raise FormatError(f"tree: entry {node.name!r} is out of order")
        previous = name
        _check_node(node)
    return nodes


def check_name(name: bytes) -> None:
    """Refuse names that would leave their directory; FormatError."""
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise FormatError(f"tree: {name[:80]!r} is not a file name")


def _check_node(node: Node) -> None:
    if node.type not in NODE_TYPES:
        raise FormatError(f"tree: entry {node.name!r} has unknown type {node.type[:20]!r}")
    if node.type == "file":
        if node.content is None:
            raise FormatError(f"tree: file {node.name!r} has no content list")
        for id_ in node.content:
            _check_hex(id_, node)
    elif node.content is not None:
        raise FormatError(f"tree: {node.type} {node.name!r} has a content list")
    if (node.type == "dir") != bool(node.subtree):
        raise FormatError(f"tree: {node.type} {node.name!r}: subtree given or missing wrongly")
    if node.subtree:
        _check_hex(node.subtree, node)
    if min(node.mode, node.uid, node.gid, node.inode, node.device_id, node.size, node.links, node.device) < 0:
        raise FormatError(f"tree: entry {node.name!r} has a negative number")
    wide = max(node.inode, node.device_id, node.size, node.device, node.links)
    if max(node.mode, node.uid, node.gid) >= 1 << 32 or wide >= 1 << 64:
        raise FormatError(f"tree: entry {node.name!r} has a number out of range")
    if node.linktarget_raw and not _is_needed(node.linktarget_raw, node.linktarget):
        raise FormatError(f"tree: entry {node.name!r}: its two forms of the link's target disagree")
    if node.generic_attributes:
        _check_attributes(bytes(node.generic_attributes), node.name)
    check_time(node.mtime)
    check_time(node.ctime)
    if node.atime != node.mtime:
        check_time(node.atime)


def _is_needed(raw: bytes, text: str) -> bool:
    """Is ``raw`` a link target that no text can hold, and ``text`` its best form?"""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return link_target_text(raw) == text
    return False


def _check_attributes(raw: bytes, name: str) -> None:
    """Go compacts these and sorts their keys, so what it would write otherwise is refused."""
    try:
        attributes = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        values = {key: msgspec.json.decode(value) for key, value in attributes.items()}
        canonical = go_json(msgspec.json.encode(values, order="sorted")) == raw
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeError, ValueError, RecursionError) as error:
        raise FormatError(f"tree: entry {name!r}: generic attributes: {error}") from None
    if not attributes or not canonical:
        raise FormatError(f"tree: entry {name!r}: generic attributes are not in canonical form")


def _check_hex(id_: str, node: Node) -> None:
    # isalnum and lower-case first: bytes.fromhex would also take spaces.
    if len(id_) != 64 or not id_.isalnum() or id_ != id_.lower():
        raise FormatError(f"tree: entry {node.name!r} names a blob {id_[:80]!r}")
    try:
        bytes.fromhex(id_)
    except ValueError:
        raise FormatError(f"tree: entry {node.name!r} names a blob {id_[:80]!r}") from None


def go_mode(st_mode: int) -> int:
    """Go's file mode for a POSIX ``st_mode``; KeyError for types restic does not know."""
    return (
        (st_mode & 0o777)
        | _GO_TYPE[stat.S_IFMT(st_mode)]
        | (GO_SETUID if st_mode & stat.S_ISUID else 0)
        | (GO_SETGID if st_mode & stat.S_ISGID else 0)
        | (GO_STICKY if st_mode & stat.S_ISVTX else 0)
    )


def posix_permissions(mode: int) -> int:
    """The twelve permission bits of POSIX for a node's ``mode``."""
    return (
        (mode & 0o777)
        | (stat.S_ISUID if mode & GO_SETUID else 0)
        | (stat.S_ISGID if mode & GO_SETGID else 0)
        | (stat.S_ISVTX if mode & GO_STICKY else 0)
    )


def blob_id_of(text: str) -> BlobId:
    """The ID that a tree names in hex; FormatError when it is none."""
    try:
        id_ = bytes.fromhex(text)
    except ValueError:
        id_ = b""
    if len(id_) != 32:
        raise FormatError(f"names a blob {text[:80]!r}, which is no ID")
    return BlobId(id_)


def subtree_ids(nodes: Iterable[Node]) -> list[bytes]:
    """The tree blobs that ``nodes`` name, in order."""
    return [bytes.fromhex(node.subtree) for node in nodes if node.subtree]


def content_ids(nodes: Iterable[Node]) -> list[bytes]:
    """The data blobs that ``nodes`` name, in order and with repetitions."""
    return [bytes.fromhex(id_) for node in nodes if node.content for id_ in node.content]
