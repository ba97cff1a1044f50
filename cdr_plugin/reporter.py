"""What long work tells whoever watches: progress, and errors that did not stop it.

The command line turns this into bars, lines or JSON; tests and embedders use it as it is.
"""

from __future__ import annotations


class Reporter:
    """Ignores everything; override what is of interest. Called from any thread."""

    def progress(self, **fields: int | float | str) -> None:
        """Some new totals, named as in restic's ``status`` messages where it has them. Cheap to
        call often: implementations drop what comes too fast."""

    def error(self, item: str, during: str, error: Exception | str) -> None:
        """One item failed and the work goes on; ``during`` is ``scan``, ``archival``,
        ``restore``, ``receive`` or ``send``."""

    def item(self, action: str, item: str, size: int) -> None:
        """What became of one item, for who asked to hear of each: ``restored``, ``updated``, ``unchanged``
        or ``deleted``; ``size`` in content bytes."""

    def note(self, text: str) -> None:
        """One line worth reading: a warning or a decision."""
