"""Plugins whose transports fail as planned, for whole runs of a tier."""

from __future__ import annotations

from dataclasses import replace

from cdr_plugin.contracts import Settings, Transport
from cdr_plugin.plugins import Plugins
from cdr_plugin.transports.faults import Fault, FaultyTransport


class FaultyPlugins(Plugins):
    """The installed plugins; all transports share one queue of faults."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__()
        self._faults = faults

    def transport(self, url: str, settings: Settings | None = None, *, create: bool = False) -> Transport:
        return _SharedFaults(super().transport(url, settings, create=create), self._faults)


class _SharedFaults(FaultyTransport):
    """Takes its faults from a queue that outlives it."""

    def __init__(self, inner: Transport, faults: list[Fault]) -> None:
        super().__init__(inner)
        self._faults = faults

    def _next(self, operation: str, name: str, **can: bool) -> Fault | None:
        before = self._skipped
        found = super()._next(operation, name, **can)
        if found is None and self._skipped > before:
            self._faults[0] = replace(self._faults[0], skip=self._faults[0].skip - 1)
            self._skipped = before
        return found

    def check_all_fired(self) -> None:
        """The queue's owner looks whether all fired."""
