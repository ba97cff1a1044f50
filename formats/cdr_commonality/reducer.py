"""Dropping what the tiers above know already."""

from __future__ import annotations

from cdr_plugin.contracts import Reducer
from cdr_plugin.model.blobs import Payload


class CommonalityReducer(Reducer):
    """Keeps the first delivery of each blob, in the encoding in which it came: a delta stays a delta."""

    def reduce(self, payload: Payload, *, is_known: bool) -> Payload | None:
        return None if is_known else payload
