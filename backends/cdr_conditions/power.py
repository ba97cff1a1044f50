"""``on_battery``: where the power comes from, by /sys/class/power_supply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show

_FACTS = ("type", "scope", "online", "status")
_STORES = ("Battery", "UPS")


class OnBattery(Condition):
    """``false``: only on mains; ``true``: on battery as well. A machine without a battery is on mains."""

    name = "on_battery"

    def __init__(self, supplies: Path = Path("/sys/class/power_supply")) -> None:
        self._supplies = supplies

    def check(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"expected true or false, not {show(value)}")

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        return one and other

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        if value or not is_on_battery(self._supplies):
            return Verdict(True)
        return Verdict(False, "waiting for mains power")


def is_on_battery(supplies: Path) -> bool:
    """Batteries of mice and phones do not count. Where nothing tells of the mains, a battery that is
    being emptied does: machines with a UPS, and tablets, have no other sign."""
    found = list(_read(supplies))
    stores = [one for one in found if one["type"] in _STORES and one["scope"] != "Device"]
    lines = [one["online"] != "0" for one in found if one["type"] not in _STORES and one["online"]]
    if not stores or any(lines):
        return False
    return bool(lines) or any(one["status"] == "Discharging" for one in stores)


def _read(supplies: Path) -> Iterator[Mapping[str, str]]:
    try:
        folders = sorted(supplies.iterdir())
    except OSError:
        return
    for folder in folders:
        yield {fact: _text(folder / fact) for fact in _FACTS}


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:  # not every supply has every fact, and one may be unplugged just now
        return ""
