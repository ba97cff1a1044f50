"""``metered``: whether somebody pays for the bytes, as NetworkManager sees it."""

from __future__ import annotations

from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show

from .running import Runner, run

LIMIT_S = 2.0
_MANAGER = "org.freedesktop.NetworkManager"
_BUSCTL = (
    *("busctl", "--system", "--auto-start=no", "get-property"),
    *(_MANAGER, "/org/freedesktop/NetworkManager", _MANAGER, "Metered"),
)
_YES, _GUESSED_YES = "1", "3"
"""Of NetworkManager's NMMetered: 0 unknown, 1 yes, 2 no, 3 guessed yes, 4 guessed no."""
_NMCLI = ("nmcli", "--terse", "--get-values", "GENERAL.METERED", "device", "show")


class Metered(Condition):
    """``false``: not on a metered connection; ``true``: on any. Without NetworkManager none is metered."""

    name = "metered"

    def __init__(self, runner: Runner = run) -> None:
        self._run = runner

    def check(self, value: Any) -> None:
        if not isinstance(value, bool):
            raise ConfigError(f"expected true or false, not {show(value)}")

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        return one and other

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        if value or not self._is_metered():
            return Verdict(True)
        return Verdict(False, "waiting for a connection that is not metered")

    def _is_metered(self) -> bool:
        told = self._run(_BUSCTL, LIMIT_S)
        if told.code == 0:
            return told.text.split()[-1:] in ([_YES], [_GUESSED_YES])
        # Of all devices, since nmcli does not say which one is in use; it says "yes (guessed)" too.
        told = self._run(_NMCLI, LIMIT_S)
        return told.code == 0 and any(line.startswith("yes") for line in told.text.splitlines())
