"""``load_below``: the machine has little to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show


class LoadBelow(Condition):
    """A number that the load average of the last minute must stay below."""

    name = "load_below"

    def __init__(self, loadavg: Path = Path("/proc/loadavg")) -> None:
        self._loadavg = loadavg

    def check(self, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise ConfigError(f"expected a load such as 1.5, not {show(value)}")

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        return min(other, one)

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        try:
            load = float(self._loadavg.read_text().split()[0])
        except (OSError, ValueError, IndexError):  # no such file on this system
            return Verdict(True)
        if load < value:
            return Verdict(True)
        return Verdict(False, f"waiting for a load below {value} (now {load:.2f})")
