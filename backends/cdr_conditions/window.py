"""``window``: times of the week."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError

if TYPE_CHECKING:
    from datetime import tzinfo


class Window(Condition):
    """``"Mon-Fri 08:00-18:00"``, ``"20:00-06:00"``, ``"Sat,Sun"``, or a list: in any of these, by the clock
    on the wall. A window over midnight belongs to the day on which it opens."""

    name = "window"

    def __init__(self, zone: tzinfo | None = None) -> None:
        """``zone``: None for that of the machine, wherever it is just now."""
        self._zone = zone

    def check(self, value: Any) -> None:
        from .week import parse_hours

        windows = _list(value)
        if not windows:
            raise ConfigError("an empty list of windows would never be convenient")
        for window in windows:
            try:
                parse_hours(window)
            except ValueError as error:
                raise ConfigError(str(error)) from None

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        """The windows in which those of both are open."""
        from . import week

        mask, others = (week.minutes_of(map(week.parse_hours, _list(value))) for value in (one, other))
        common = mask & others
        if not common:
            each = [" or ".join(_list(value)) for value in (one, other)]
            raise ValueError(f"the windows {each[0]} and {each[1]} have no time in common")
        return other if common == others else one if common == mask else week.windows_of(common)

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        from . import week

        windows = _list(value)
        hours = [week.parse_hours(window) for window in windows]
        opens_s, closes_s = week.next_spell(hours, occasion.now_s, self._zone)
        if opens_s <= occasion.now_s:
            return Verdict(True, ask_again_s=closes_s - occasion.now_s)
        opens = week.weekday_and_clock(opens_s, self._zone)
        reason = f"waiting for the window {' or '.join(windows)} (opens {opens})"
        return Verdict(False, reason, opens_s - occasion.now_s)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
