"""Numbers for packs, and the names of those that have one: 32 bytes each and a row of a table."""

from __future__ import annotations

from array import array

from cdr_plugin.kernel import LISTED_RECORD, BlobTable

_NAME_BYTES = 32
_UNNAMED = bytes(_NAME_BYTES)


class PackNames:
    """Numbers count up from 0. Takes about 95 bytes per pack.

    A name that is all zeros, which no file can have, counts as none.
    """

    def __init__(self) -> None:
        self._names = bytearray()
        # Keyed by name; the pack of a row is the number.
        self._numbers = BlobTable()

    def __len__(self) -> int:
        """Numbers given so far."""
        return len(self._names) // _NAME_BYTES

    def new(self) -> int:
        """A number without a name."""
        self._names += _UNNAMED
        return len(self) - 1

    def name(self, number: int, name: str) -> None:
        """Give a number its name (hex), for good."""
        id_ = bytes.fromhex(name)
        self._names[number * _NAME_BYTES : (number + 1) * _NAME_BYTES] = id_
        self._numbers.add(0, id_, number, 0, 0, 0)

    def get(self, number: int) -> str:
        """Hex; empty for a number without a name."""
        id_ = self._names[number * _NAME_BYTES : (number + 1) * _NAME_BYTES]
        return "" if id_ == _UNNAMED else id_.hex()

    def find(self, name: str) -> int | None:
        row = self._numbers.find(0, bytes.fromhex(name))
        return None if row < 0 else self._numbers.get(row)[2]

    def number_all(self, listed: bytes) -> bytes:
        """The numbers of packs (``LISTED_RECORD``), new ones where needed, as the kernel takes them."""
        numbers = array("I")
        for id_, _ in LISTED_RECORD.iter_unpack(listed):
            row = self._numbers.find(0, id_)
            if row < 0:
                self._numbers.add(0, id_, len(self), 0, 0, 0)
                numbers.append(len(self))
                self._names += id_
            else:
                numbers.append(self._numbers.get(row)[2])
        return numbers.tobytes()
