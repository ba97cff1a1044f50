"""``above``: what the tier above says of itself."""

from __future__ import annotations

from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show


class Above(Condition):
    """``"ready"``: not while the tier above says that it is busy. One that says nothing is ready."""

    name = "above"

    def check(self, value: Any) -> None:
        if value != "ready":
            raise ConfigError(f'expected "ready", not {show(value)}')

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        return one

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        busy = occasion.busy_above()
        return Verdict(True) if busy is None else busy
