"""Registers the reduction method ``delta``."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import ReductionMethod, hookimpl


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return []
