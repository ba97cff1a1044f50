"""The kernel's chunker as a splitter."""

from __future__ import annotations

from collections.abc import Sequence

from cdr_plugin.contracts import Splitter
from cdr_plugin.kernel import Chunker
from cdr_plugin.model.blobs import Buffer

from .parameters import Parameters


class RabinSplitter(Splitter):
    """Cuts as restic does; the kernel releases the GIL while it scans."""

    def __init__(self, parameters: Parameters) -> None:
        self.min_size = parameters.min_size
        self.max_size = parameters.max_size
        self._chunker = Chunker(
            parameters.polynomial, parameters.min_size, parameters.max_size, parameters.average_bits
        )

    def reset(self) -> None:
        self._chunker.reset()

    def feed(self, data: Buffer) -> Sequence[int]:
        return self._chunker.feed(data)
