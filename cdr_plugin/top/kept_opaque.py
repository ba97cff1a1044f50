"""Payloads that did not decode here, in segments that stay in the inbox: each pass reads them again.

They are passed on, and count, once. What is remembered of them lasts until their segments are taken; a crash between
the two makes one count twice, or a later one of the same blob be asked for again.
"""

from __future__ import annotations

from cdr_plugin.identity.register import Client
from cdr_plugin.tier_state import TierState

MAX_REMEMBERED = 4096
"""Of one client, 33 bytes each. One that leaves more of them counts them with each pass."""
_KEY_BYTES = 33


class KeptOpaque:
    """Of one client; durable after ``save``. Keys are type byte and ID."""

    def __init__(self, state: TierState, client: Client) -> None:
        self._state = state
        self._fact = f"kept-opaque:{client.fingerprint.hex()}"
        self._saved = state.get(self._fact) or b""
        self._known = {self._saved[at : at + _KEY_BYTES] for at in range(0, len(self._saved), _KEY_BYTES)}
        self._came: set[bytes] = set()

    def is_new(self, key: bytes) -> bool:
        """Whether one that comes now was not passed on before."""
        if len(self._came) < MAX_REMEMBERED:
            self._came.add(key)
        return key not in self._known

    def end(self, *, comes_again: bool) -> None:
        """The segments in which it came are done with, unless what is in them ``comes_again``."""
        if not comes_again:
            self._known -= self._came
        elif len(self._known | self._came) <= MAX_REMEMBERED:
            self._known |= self._came
        self._came.clear()

    def save(self) -> None:
        now = b"".join(sorted(self._known))
        if now != self._saved:
            self._state.put({self._fact: now})
            self._saved = now
