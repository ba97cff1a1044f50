"""``when`` tables: conditions by name, each a plugin.

The values stay as TOML has them, since that is what conditions take. What a value may be, its condition
says; this module knows none of them. Plugins are loaded for files that have a ``when`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cdr_plugin.errors import ConfigError, PluginError
from cdr_plugin.model.quantities import show

from .origin import KeyPath, Origin, collecting, raise_all


def build_when(table: object, path: KeyPath, origin: Origin) -> Mapping[str, Any]:
    """The conditions of a ``when`` table, each checked; ConfigError."""
    if not isinstance(table, dict):
        raise origin.error(path, f"expected a table of conditions, not {show(table)}")
    problems: list[ConfigError] = []
    for name, value in table.items():
        with collecting(problems):
            _check(name, value, (*path, name), origin)
    raise_all(problems)
    return table


def _check(name: str, value: object, path: KeyPath, origin: Origin) -> None:
    from cdr_plugin.plugins import installed

    try:
        condition = installed().condition(name)
    except PluginError:
        known = [info.name for info in installed().infos() if info.kind == "condition" and info.enabled]
        raise origin.unknown(path, known) from None
    try:
        condition.check(value)
    except ConfigError as error:
        raise origin.error(path, str(error)) from None
