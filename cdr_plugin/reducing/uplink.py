"""A reducing tier as the tier above sees it: a sender with a transfer queue, of a kind that may speak for others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.client.state import ClientState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.reducing.uplink_state import UplinkState

if TYPE_CHECKING:
    from cdr_plugin.identity.keys import VerifyKey


@dataclass
class Uplink(ClientTier):
    """One place above, or several in whose stead the first one that answers is used. With several uplinks each
    has its own queue: they are different hierarchies."""

    @cached_property
    def state(self) -> UplinkState:
        self.require_state()
        return UplinkState(self.state_folder)

    @property
    def writing_lock(self) -> Path:
        """That of the tier's passes, whose state folder holds those of its uplinks."""
        return self.state_folder.parent / "receive.lock"

    def new_state(self) -> ClientState:
        return UplinkState(self.state_folder)

    @property
    def is_enrolled(self) -> bool:
        return self.state.get("ticket") is not None

    @property
    def above(self) -> VerifyKey:
        """The key of the next reducing tier, or the top: who answers us."""
        return self.ticket.issuer
