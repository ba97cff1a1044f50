"""``when`` tables: conditions by name.

The values stay as TOML has them, since that is what conditions take; those of the built-in
conditions are checked here, others by the plugin that provides them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from cdr_plugin.errors import ConfigError, PluginError
from cdr_plugin.model.quantities import parse_duration, show

from .origin import KeyPath, Origin

_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_DAYS = rf"{_DAY}(?:-{_DAY})?(?:,{_DAY}(?:-{_DAY})?)*"
_CLOCK = r"(?:[01]\d|2[0-3]):[0-5]\d"
_WINDOW = re.compile(rf"{_DAYS}|(?:{_DAYS} )?{_CLOCK}-(?:{_CLOCK}|24:00)").fullmatch


def build_when(table: object, path: KeyPath, origin: Origin) -> Mapping[str, Any]:
    """The conditions of a ``when`` table, each checked; ConfigError."""
    if not isinstance(table, dict):
        raise origin.error(path, f"expected a table of conditions, not {show(table)}")
    for name, value in table.items():
        _check(name, value, (*path, name), origin)
    return table


def _check(name: str, value: object, path: KeyPath, origin: Origin) -> None:
    check = _BUILT_IN.get(name)
    try:
        if check is not None:
            check(value)
        else:
            _check_by_plugin(name, value, path, origin)
    except ValueError as error:
        raise origin.error(path, str(error)) from None


def _check_by_plugin(name: str, value: object, path: KeyPath, origin: Origin) -> None:
    from cdr_plugin.plugins import installed

    try:
        condition = installed().condition(name)
    except PluginError:
        raise origin.unknown(path, _BUILT_IN) from None
    try:
        condition.check(value)
    except ConfigError as error:
        raise origin.error(path, str(error)) from None


def _window(value: object) -> None:
    windows = value if isinstance(value, list) else [value]
    for window in windows:
        if not isinstance(window, str) or not _WINDOW(window):
            raise ValueError(f'expected a window such as "Mon-Fri 08:00-18:00", not {show(window)}')
    if not windows:
        raise ValueError("an empty list of windows would never be convenient")


def _on_battery(value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, not {show(value)}")


def _load_below(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"expected a load such as 1.5, not {show(value)}")


_BUILT_IN: dict[str, Callable[[object], object]] = {
    "every": parse_duration,
    "load_below": _load_below,
    "on_battery": _on_battery,
    "window": _window,
}
