"""Remembers blobs, and makes differs."""

from __future__ import annotations

from cdr_plugin.contracts import Differ, Encoder, OldContent
from cdr_plugin.model.blobs import Buffer

from .memory import Memories
from .settings import DeltaSettings


class DeltaEncoder(Encoder):
    """A blob alone has no delta: ``encode`` gives None."""

    def __init__(self, settings: DeltaSettings) -> None:
        self._level = settings.level
        self._memories = Memories(settings.key, settings.block_size)

    def encode(self, blob: Buffer) -> Buffer | None:
        return None

    def remember(self, blob: Buffer, offset: int) -> bytes:
        return self._memories.make(blob, offset)

    def differ(self, old: OldContent) -> Differ:
        from .differ import DeltaDiffer

        return DeltaDiffer(old, self._memories, self._level)
