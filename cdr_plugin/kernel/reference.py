"""The kernels in plain Python: the oracle of the C extension, and what runs where there is none.

Names, arguments, results and exceptions are those of ``_kernel``. What is promised is written here.
"""

import errno
import os
import stat
from collections.abc import Sequence
from operator import length_hint

from .arguments import check, check_bytes, check_name
from .blob_table import BlobTable
from .block_match import BlockIndex, BlockSigner
from .block_sample import BlockSample
from .file_making import make_files
from .index_scan import scan_index
from .polynomial import DEGREE, rolling_tables
from .records import NO_STAT, STAT_RECORD

__all__ = [
    "BlobTable",
    "BlockIndex",
    "BlockSample",
    "BlockSigner",
    "Chunker",
    "make_files",
    "read_files",
    "scan_directory",
    "scan_index",
]

WINDOW = 64
"""Bytes under the fingerprint; no blob but the last of a file may be shorter."""

_SIZE_MAX = 2**32 - 1
"""A repository holds no blob of 4 GiB or more."""

_LIMIT_MAX = 2**31 - 1


class Chunker:
    """Cut points in one file after another, by restic's rule.

    A blob ends after the first byte at which it is at least ``min_size`` long and the low
    ``average_bits`` bits of the Rabin fingerprint of its last 64 bytes are zero, or at ``max_size``.
    Any division of a file into buffers gives the same cuts. Raises ``ValueError`` for a polynomial
    of another degree than 53 and for sizes that contradict each other.

    One object serves one thread at a time; another that comes in between gets ``RuntimeError``.
    """

    def __init__(
        self,
        polynomial: int,
        min_size: int = 524288,
        max_size: int = 8388608,
        average_bits: int = 20,
    ) -> None:
        if polynomial < 0 or polynomial.bit_length() - 1 != DEGREE:
            raise ValueError(f"polynomial must have degree 53, which {polynomial} has not")
        check("min_size", min_size, WINDOW, _SIZE_MAX)
        check("max_size", max_size, min_size, _SIZE_MAX)
        check("average_bits", average_bits, 1, 32)
        self._parameters = (polynomial, min_size, max_size, average_bits)
        self._mask = (1 << average_bits) - 1
        self._reduce, self._leave = rolling_tables(polynomial, WINDOW)
        self._length = 0
        self._tail = bytes(WINDOW)
        self._busy = False

    @property
    def polynomial(self) -> int:
        """Bit i is the coefficient of x^i."""
        return self._parameters[0]

    @property
    def min_size(self) -> int:
        """Smallest blob, in bytes; only the last one of a file may be smaller."""
        return self._parameters[1]

    @property
    def max_size(self) -> int:
        """Largest blob, in bytes."""
        return self._parameters[2]

    @property
    def average_bits(self) -> int:
        """A cut needs this many zero bits in the fingerprint."""
        return self._parameters[3]

    def feed(self, data: bytes | bytearray | memoryview, /) -> list[int]:
        """Offsets in ``data`` just after which a blob ends, ascending.

        Bytes after the last offset begin a blob that goes on in the next buffer, or ends with the
        file: that last cut is the caller's.
        """
        self._enter()
        try:
            with memoryview(data) as view, view.cast("B") as octets:
                return self._cuts(octets)
        finally:
            self._busy = False

    def reset(self) -> None:
        """Forget the current blob: the next byte is the first of a file."""
        self._enter()
        self._length = 0
        self._busy = False

    def _enter(self) -> None:
        if self._busy:
            raise RuntimeError("this Chunker is in use by another thread; give each file its own")
        self._busy = True

    def _cuts(self, data: memoryview) -> list[int]:
        cuts: list[int] = []
        start = 0
        while end := self._next_cut(data, start):
            cuts.append(end)
            self._length = 0
            start = end
        self._length += len(data) - start
        self._tail = (self._tail + bytes(data[-WINDOW:]))[-WINDOW:]
        return cuts

    def _next_cut(self, data: memoryview, start: int) -> int:
        """The first cut after ``start``, where the blob is ``_length`` long; 0 if there is none.

        The first place for a cut is ``min_size``, and by then restic's initial byte 1 has left the
        window: the fingerprint there is that of the last 64 bytes, whatever came before.
        """
        low = start + max(self.min_size - self._length, 1)
        forced = start + self.max_size - self._length
        high = min(forced, len(data))
        if low > len(data):
            return 0
        end = 0
        if low < WINDOW:
            seam = memoryview(self._tail + bytes(data[:WINDOW]))
            end = self._scan(seam, low + WINDOW, min(high, WINDOW - 1) + WINDOW)
            if end:
                return end - WINDOW
            low = WINDOW
        if low <= high:
            end = self._scan(data, low, high)
        return end or (forced if forced <= len(data) else 0)

    def _scan(self, data: memoryview, low: int, high: int) -> int:
        """The first end from ``low`` (at least 64) to ``high`` whose fingerprint asks for a cut, or 0.

        About 110 ns per byte, 3.6 s for 32 MiB with the default sizes (a third of which is never hashed).
        """
        reduce, leave, mask, shift = self._reduce, self._leave, self._mask, DEGREE - 8
        f = 0
        for new in data[low - WINDOW : low]:
            f = f << 8 ^ reduce[f >> shift] ^ new
        if not f & mask:
            return low
        entering = iter(bytes(data[low:high]))
        leaving = bytes(data[low - WINDOW : high - WINDOW])
        for new, old in zip(entering, leaving, strict=True):
            f = f << 8 ^ reduce[f >> shift] ^ leave[old] ^ new
            if not f & mask:
                return high - length_hint(entering)
        return 0


def scan_directory(path: bytes, /) -> tuple[list[bytes], bytes]:
    """The names in a directory, ascending as bytes, and their stat records end to end.

    Symbolic links are not followed, neither at ``path`` nor below. A name that vanishes while we look
    is left out; one that cannot be examined has a record of 72 bytes 0xff. Whatever else fails raises
    ``OSError`` with the path.
    """
    check_bytes("path", path)
    directory = _open_directory(path)
    try:
        try:
            names = sorted({os.fsencode(name) for name in os.listdir(directory)})
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None
        found = [(name, _examine(directory, name)) for name in names]
    finally:
        os.close(directory)
    present = [(name, record) for name, record in found if record]
    return [name for name, _ in present], b"".join(record for _, record in present)


def read_files(directory: bytes, names: Sequence[bytes], limit: int) -> list[tuple[bytes | int, bytes]]:
    """For each name its content, or the errno of the failure, and its stat record.

    At most ``limit + 1`` bytes of a file are read; a content that long means that the file is larger than
    the limit. The record is taken after opening and is empty when opening failed. Symbolic links are not
    followed (``ELOOP``), and what turns out not to be a regular file is not read (``ESTALE``); a fifo does
    not block. Raises ``OSError`` if the directory cannot be opened, ``ValueError`` for a name with a slash.
    """
    check("limit", limit, 0, _LIMIT_MAX)
    check_bytes("directory", directory)
    names = tuple(names)
    for name in names:
        check_name(name)
    parent = _open_directory(directory)
    try:
        return [_read_file(parent, name, limit) for name in names]
    finally:
        os.close(parent)


def _open_directory(path: bytes) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _examine(directory: int, name: bytes) -> bytes:
    try:
        return _record(os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return b""
    except OSError:
        return NO_STAT


def _record(st: os.stat_result) -> bytes:
    mtime_s, mtime_ns = divmod(st.st_mtime_ns, 10**9)
    ctime_s, ctime_ns = divmod(st.st_ctime_ns, 10**9)
    u32, u64 = 2**32 - 1, 2**64 - 1
    return STAT_RECORD.pack(
        st.st_mode,
        min(st.st_nlink, u32),
        st.st_uid & u32,
        st.st_gid & u32,
        st.st_dev & u64,
        st.st_ino & u64,
        st.st_rdev & u64,
        st.st_size,
        mtime_s,
        ctime_s,
        mtime_ns,
        ctime_ns,
    )


def _read_file(parent: int, name: bytes, limit: int) -> tuple[bytes | int, bytes]:
    record = b""
    try:
        fd = _open_file(parent, name)
        try:
            st = os.fstat(fd)
            record = _record(st)
            if not stat.S_ISREG(st.st_mode):
                return errno.ESTALE, record
            return _read_upto(fd, limit + 1), record
        finally:
            os.close(fd)
    except OSError as error:
        return error.errno or errno.EIO, record


def _open_file(parent: int, name: bytes) -> int:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        return os.open(name, flags | getattr(os, "O_NOATIME", 0), dir_fd=parent)
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return os.open(name, flags, dir_fd=parent)


def _read_upto(fd: int, most: int) -> bytes:
    parts = []
    while most and (part := os.read(fd, min(most, 1 << 20))):
        parts.append(part)
        most -= len(part)
    return b"".join(parts)
