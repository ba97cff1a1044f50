"""The packed records which blob tables take and give."""

from struct import Struct
from typing import NamedTuple

BLOB_RECORD = Struct("<B32sIIII")
"""Layout of one row, 49 bytes. ``BlobRow(*BLOB_RECORD.unpack(data))`` names the fields."""

RUN_RECORD = Struct("<III")
"""Pack number, first row, number of rows."""

TOTALS_RECORD = Struct("<6Q")
"""Flagged rows and their bytes, other rows and their bytes, rows of type 1, rows with ``plain`` 0."""

REPEAT_RECORD = Struct("<II")
"""A row, and the earlier row that is the first of the same key."""

LISTED_RECORD = Struct("<32sI")
"""Name of a pack in an index file, and how many rows it has there."""


class BlobRow(NamedTuple):
    """``type`` 0 or 1, ``id`` 32 bytes, ``pack`` below 2**31; offset and lengths below 2**32."""

    type: int
    id: bytes
    pack: int
    offset: int
    length: int
    plain: int
