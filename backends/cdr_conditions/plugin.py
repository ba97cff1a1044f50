"""Registers the built-in conditions."""

from __future__ import annotations

from collections.abc import Iterable

from cdr_plugin.contracts import Condition, hookimpl

from .command import Command
from .every import Every
from .idle import DiskIdle, NetworkIdle
from .load import LoadBelow
from .metered import Metered
from .power import OnBattery
from .reachable import Reachable
from .window import Window


@hookimpl
def cdr_conditions() -> Iterable[Condition]:
    return [
        Command(),
        DiskIdle(),
        Every(),
        LoadBelow(),
        Metered(),
        NetworkIdle(),
        OnBattery(),
        Reachable(),
        Window(),
    ]
