"""Registers the built-in conditions. Each is imported when it is first used: every command that needs any
plugin comes through here, and their modules took 9 ms of a start of 150."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict, hookimpl

BUILT_IN = (
    "above.Above",
    "command.Command",
    "every.Every",
    "idle.DiskIdle",
    "idle.NetworkIdle",
    "load.LoadBelow",
    "metered.Metered",
    "power.OnBattery",
    "reachable.Reachable",
    "window.Window",
)
"""Module and class of each."""


class Later(Condition):
    """The condition that a class of this package makes."""

    def __init__(self, place: str) -> None:
        self._module, _, self._kind = place.partition(".")
        self.name = "".join(f"_{c.lower()}" if c.isupper() else c for c in self._kind).removeprefix("_")

    def check(self, value: Any) -> None:
        self.condition.check(value)

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        return self.condition.ask(value, occasion)

    @property
    def central(self) -> bool:
        return self.condition.central

    def both(self, one: Any, other: Any) -> Any:
        return self.condition.both(one, other)

    @property
    def condition(self) -> Condition:
        found: Condition = getattr(import_module(f".{self._module}", __package__), self._kind)()
        return found


@hookimpl
def cdr_conditions() -> Iterable[Condition]:
    return [Later(place) for place in BUILT_IN]
