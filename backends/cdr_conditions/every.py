"""``every``: so much time has passed since it was last done."""

from __future__ import annotations

from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import format_duration, parse_duration


class Every(Condition):
    """A duration. What was never done is due, and so is what was done in the future: the clock has been
    put back, and waiting for it could take years."""

    name = "every"

    def check(self, value: Any) -> None:
        try:
            parse_duration(value)
        except ValueError as error:
            raise ConfigError(str(error)) from None

    @property
    def central(self) -> bool:
        return True

    def both(self, one: Any, other: Any) -> Any:
        return max(other, one, key=parse_duration)

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        interval_s = parse_duration(value)
        last_s = occasion.last_done_s
        if occasion.is_under_way or last_s is None or not last_s <= occasion.now_s < last_s + interval_s:
            return Verdict(True, ask_again_s=interval_s)
        left_s = last_s + interval_s - occasion.now_s
        left = format_duration(max(int(left_s), 1))
        return Verdict(False, f"waiting for {value} to pass since the last time ({left} left)", left_s)
