"""Registers the reduction method ``rabin``."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import ReductionMethod, Settings, Splitter, hookimpl


class RabinMethod(ReductionMethod):
    """Content-defined splitting by restic's rule; encodes nothing.

    A group's parameters (also a ticket's)::

        name          "rabin"
        polynomial    hexadecimal, irreducible, of degree 53
        min_size      bytes, default 524288
        max_size      bytes, default 8388608
        average_bits  zero bits that a cut needs, default 20
    """

    name = "rabin"
    version = 1

    def splitter(self, parameters: Settings) -> Splitter:
        from .parameters import parsed
        from .splitter import RabinSplitter

        return RabinSplitter(parsed(parameters))

    def chunker_parameters(self, settings: Settings) -> Settings:
        """``settings`` with every default filled in; a random polynomial unless one is given."""
        from .parameters import for_new_group

        return for_new_group(settings)


@hookimpl
def cdr_reduction_methods() -> Iterable[ReductionMethod]:
    return [RabinMethod()]
