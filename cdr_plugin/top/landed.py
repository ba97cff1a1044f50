"""How much has landed and waits to be reduced; of its own, since ``cdr status`` asks for nothing else of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cdr_plugin.top.tier import TopTier

INDEX = "[0-9a-f]" * 8
"""The file name of a segment; what a put that was cut off has left has another."""


def landed_bytes(top: TopTier) -> int:
    """What waits there to be reduced."""
    return sum(path.stat().st_size for path in top.landing.glob(f"clients/*/*/{INDEX}"))
