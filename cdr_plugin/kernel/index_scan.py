"""``scan_index`` in plain Python: restic's index files, read by the letter."""

import re

from .arguments import check
from .blob_records import BLOB_RECORD, LISTED_RECORD

_U32 = 2**32 - 1
_ID = rb"[0-9a-f]{64}"
_NUMBER = rb"(0|[1-9][0-9]{0,9})"

_HEAD = re.compile(rb'\{(?:"supersedes":\[(?:"%b"(?:,"%b")*)?\],)?"packs":\[' % (_ID, _ID))
_PACK = re.compile(rb'\{"id":"(%b)","blobs":\[' % _ID)
_BLOB = re.compile(
    rb'\{"id":"(%b)","type":"(data|tree)","offset":%b,"length":%b(?:,"uncompressed_length":%b)?\}'
    % (_ID, _NUMBER, _NUMBER, _NUMBER)
)
_TAIL = re.compile(rb"\]\}\n?")


def scan_index(
    data: bytes | bytearray | memoryview, least_length: int, compressed: bool, /
) -> tuple[bytes, bytes] | None:
    """The packs (``LISTED_RECORD``) and blobs (``BLOB_RECORD``) of an index file in the layout that restic writes.

    That is: no spaces, fields in restic's order, IDs in lower case. The pack of a blob is its pack's place in
    the file. None for everything else, be it valid or not, for a blob shorter than ``least_length`` or that ends
    beyond 2**32 - 1, and for an uncompressed length other than 0 unless ``compressed``.
    """
    check("least_length", least_length, 0, _U32)
    octets = bytes(memoryview(data).cast("B"))
    try:
        return _scan(octets, least_length, compressed)
    except _Unusual:
        return None


class _Unusual(Exception):
    """Not the layout."""


def _scan(data: bytes, least_length: int, compressed: bool) -> tuple[bytes, bytes]:
    packs, rows = bytearray(), bytearray()
    at = _match(_HEAD, data, 0).end()
    if data[at : at + 1] == b"{":
        at = _scan_packs(data, at, packs, rows, least_length, compressed)
    if _match(_TAIL, data, at).end() != len(data):
        raise _Unusual
    return bytes(packs), bytes(rows)


def _scan_packs(
    data: bytes, at: int, packs: bytearray, rows: bytearray, least_length: int, compressed: bool
) -> int:
    """The position behind the last pack."""
    number = 0
    while True:
        pack = _match(_PACK, data, at)
        at, count = pack.end(), 0
        while data[at : at + 1] == b"{":
            blob = _match(_BLOB, data, at)
            rows += _record(blob, number, least_length, compressed)
            count += 1
            at = blob.end()
            if data[at : at + 1] != b",":
                break
            at += 1
            if data[at : at + 1] != b"{":
                raise _Unusual
        packs += LISTED_RECORD.pack(bytes.fromhex(pack[1].decode()), count)
        number += 1
        if data[at : at + 2] != b"]}":
            raise _Unusual
        at += 2
        if data[at : at + 1] != b",":
            return at
        at += 1


def _record(blob: re.Match[bytes], pack: int, least_length: int, compressed: bool) -> bytes:
    offset, length, plain = int(blob[3]), int(blob[4]), int(blob[5] or 0)
    if length < least_length or offset + length > _U32 or plain > (_U32 if compressed else 0):
        raise _Unusual
    return BLOB_RECORD.pack(blob[2] == b"tree", bytes.fromhex(blob[1].decode()), pack, offset, length, plain)


def _match(pattern: re.Pattern[bytes], data: bytes, at: int) -> re.Match[bytes]:
    found = pattern.match(data, at)
    if found is None:
        raise _Unusual
    return found
