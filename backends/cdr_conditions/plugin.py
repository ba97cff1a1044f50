"""Registers the built-in conditions."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import Condition, hookimpl


@hookimpl
def cdr_conditions() -> Iterable[Condition]:
    return []
