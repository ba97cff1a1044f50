"""Registers the reduction method ``commonality``."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import Reducer, ReductionMethod, Settings, hookimpl
from cdr_plugin.errors import ConfigError


class CommonalityMethod(ReductionMethod):
    """Hash-based commonality factoring at intermediate tiers: each blob of a group goes up once, and what a
    client delivered again is attested (``docs/wire-format.md``). It encodes nothing, so no payload names it."""

    name = "commonality"
    version = 1

    def reducer(self, settings: Settings) -> Reducer:
        from .reducer import CommonalityReducer

        if settings:
            raise ConfigError(f"commonality: unknown setting {next(iter(settings))!r}; it has none")
        return CommonalityReducer()


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return [CommonalityMethod()]
