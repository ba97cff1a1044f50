"""The baseline: what the blobs that a client has delivered looked like, or their bytes. A cache of its own."""

from cdr_plugin.baseline.old_content import KnownContent
from cdr_plugin.baseline.store import Baseline

__all__ = ["Baseline", "KnownContent"]
