"""What one run of a client takes from the baseline, and adds to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cdr_plugin.baseline import Baseline, KnownContent
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.contracts import OldContent
from cdr_plugin.model.blobs import PLAIN, BlobType, Payload
from cdr_plugin.reporter import Reporter


class Remembering:
    """The baseline of one run. Any number of threads may ask for old contents; one at a time may add.

    Bases are blobs that were known when the run began: they are before all of its own in the stream, which
    the receiver decodes in order. What this run makes known itself is no base in it, since threads may
    claim a blob before they spool it.
    """

    def __init__(
        self, baseline: Baseline, known: KnownBlobs, labels: Sequence[str], reporter: Reporter, *, keeps_data: bool
    ) -> None:
        """``labels`` of the methods that encode; ``keeps_data``: keep the bytes of data blobs, not only of trees."""
        self.keeps = {BlobType.TREE: True, BlobType.DATA: keeps_data}
        """Types of the blobs whose bytes are kept."""
        self._baseline = baseline
        self._known = known
        self._reporter = reporter
        self._table = baseline.new_table([PLAIN, *labels])

    def old_content(self, label: str, type_: BlobType, ids: bytes) -> OldContent:
        """The content of these packed IDs, for the method of this label."""
        return KnownContent(self._baseline, self._known.from_the_start, label, type_, ids)

    def add(self, payload: Payload, memories: Iterable[tuple[str, bytes]], kept: Payload | None) -> None:
        """A blob that is spooled as ``payload``: what methods remember of it, and its bytes, without bases."""
        for label, memory in memories:
            self._table.remember(payload, label, memory)
        if kept is not None:
            self._table.keep(kept)

    def finish(self) -> None:
        """The run ends, with or without a version: what it made known is remembered, and nothing more."""
        self._table.finish()
        self._baseline.close()
        if self._table.failure is not None:
            self._reporter.note(
                f"the baseline cannot be written: {self._table.failure.strerror}; the next version of what is new in "
                "this one travels without deltas"
            )
