"""Objects that cannot be used, kept for a look, under a cap; then the client may send them again."""

from __future__ import annotations

from pathlib import Path

from cdr_plugin.errors import RemoteError
from cdr_plugin.top.intake import Arrival

MAX_QUARANTINE_BYTES = 256 * 1024 * 1024
"""A hostile client must not fill the tier's disk with rubbish; the oldest goes first."""
MAX_QUARANTINE_OBJECTS = 256
"""Small rubbish comes in any number, and each new object is weighed against all that are kept."""
_MAX_OBJECT_BYTES = 32 * 1024 * 1024


class Quarantine:
    """A folder of rejected objects. Best effort: nothing in it is needed by anybody."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, arrival: Arrival) -> None:
        """Copy the object, as long as it is not absurdly large."""
        if arrival.size > _MAX_OBJECT_BYTES:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = self._folder / f"{arrival.parcel_id.hex()}-{arrival.index:08x}"
            path.write_bytes(arrival.places[-1][0].get(arrival.name, 0, _MAX_OBJECT_BYTES))
            self._shrink()
        except (OSError, RemoteError):
            return

    def _shrink(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
        total = sum(path.stat().st_size for path in files)
        for left, path in zip(range(len(files), 0, -1), files, strict=True):
            if total <= MAX_QUARANTINE_BYTES and left <= MAX_QUARANTINE_OBJECTS:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
