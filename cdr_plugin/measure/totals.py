"""The figures of ``restic stats``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class Totals:
    """Sizes in bytes. What a way of counting does not count stays 0."""

    total_size: int = 0
    total_uncompressed_size: int = 0
    compressed_size: int = 0
    """Of what is compressed: its part of ``total_size``."""
    compressed_uncompressed_size: int = 0
    """And its part of ``total_uncompressed_size``."""
    total_file_count: int = 0
    total_blob_count: int = 0
    snapshots_count: int = 0

    def __iadd__(self, other: Totals) -> Totals:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    def as_json(self) -> dict[str, Any]:
        """restic's fields; as there, all but the first and the last are left out when they are 0, and what
        is about compression where nothing is compressed, as in repositories of version 1."""
        ratio = self.compressed_uncompressed_size / self.compressed_size if self.compressed_size else 0
        plain = self.total_uncompressed_size if self.compressed_size else 0
        optional = {
            "total_uncompressed_size": plain,
            "compression_ratio": ratio,
            "compression_progress": self.compressed_uncompressed_size / plain * 100 if plain else 0,
            "compression_space_saving": (1 - self.total_size / plain) * 100 if plain else 0,
            "total_file_count": self.total_file_count,
            "total_blob_count": self.total_blob_count,
        }
        present = {name: value for name, value in optional.items() if value}
        return {"total_size": self.total_size, **present, "snapshots_count": self.snapshots_count}
