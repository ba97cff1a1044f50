"""The stat record which directory scans and file reads return for each name."""

from struct import Struct
from typing import NamedTuple

STAT_RECORD = Struct("<IIIIQQQqqqII")
"""Layout of one record, 72 bytes. ``StatRecord(*STAT_RECORD.unpack(data))`` names the fields."""

NO_STAT = b"\xff" * STAT_RECORD.size
"""Stands for a name that is listed but cannot be examined."""


class StatRecord(NamedTuple):
    """The fields of a record in their order in the bytes.

    Devices are encoded as in ``os.stat``; ``nlink`` stops at 2**32 - 1; times are whole seconds
    since the epoch, rounded down, and the nanoseconds above that.
    """

    mode: int
    nlink: int
    uid: int
    gid: int
    dev: int
    ino: int
    rdev: int
    size: int
    mtime_s: int
    ctime_s: int
    mtime_ns: int
    ctime_ns: int
