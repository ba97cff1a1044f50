"""State machines as tables: (state, event) -> state. An unknown event raises and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class InvalidTransition(Exception):
    """A bug of ours: an event came in a state that has no answer to it."""


class StateMachine(Generic[S, E]):
    """A named transition table."""

    def __init__(self, name: str, table: Mapping[tuple[S, E], S]) -> None:
        self.name = name
        self.table = table

    def next(self, state: S, event: E) -> S:
        try:
            return self.table[state, event]
        except KeyError:
            raise InvalidTransition(f"{self.name}: {event} in state {state}") from None

    def diagram(self) -> str:
        """One line a transition, as the docs show it."""
        return "\n".join(f"{state} --{event}--> {target}" for (state, event), target in self.table.items())
