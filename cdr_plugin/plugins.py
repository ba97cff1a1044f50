"""Finds plugins, guards every load, and answers "which one does X?".

A broken plugin is reported and skipped; a duplicate name is an error of the later one. Plugins
are disabled by name with ``CDR_DISABLE_PLUGINS=name,name``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import pluggy

from cdr_plugin.contracts import (
    ENTRY_POINT_GROUP,
    Condition,
    Event,
    Hooks,
    ReductionMethod,
    RepositoryFormat,
    Settings,
    Transport,
    TransportPlugin,
)
from cdr_plugin.errors import PluginError

if TYPE_CHECKING:
    from cdr_plugin.transports.throttle import TokenBucket

T = TypeVar("T", ReductionMethod, TransportPlugin, Condition, RepositoryFormat)

_KINDS: dict[str, str] = {
    "reduction method": "cdr_reduction_methods",
    "transport": "cdr_transports",
    "condition": "cdr_conditions",
    "repository format": "cdr_repository_formats",
}


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One registered object, or one entry point that failed to load (``error`` says why)."""

    kind: str
    name: str
    version: str
    distribution: str
    enabled: bool
    error: str = ""


class Plugins:
    """All plugins of one process. Cheap to make; loads entry points at the first question."""

    def __init__(
        self,
        entries: Callable[[], Iterable[EntryPoint]] = lambda: entry_points(group=ENTRY_POINT_GROUP),
        disabled: frozenset[str] = frozenset(),
    ) -> None:
        self._entries = entries
        self._disabled = disabled
        self._manager: pluggy.PluginManager | None = None
        self._infos: list[PluginInfo] = []
        self._objects: dict[tuple[str, str], Any] = {}
        self._bucket: TokenBucket | None = None

    def _load(self) -> pluggy.PluginManager:
        if self._manager is None:
            self._manager = pluggy.PluginManager("cdr")
            self._manager.add_hookspecs(Hooks)
            for entry in sorted(self._entries(), key=lambda e: (_is_foreign(e), e.name)):
                self._load_one(self._manager, entry)
        return self._manager

    def _load_one(self, manager: pluggy.PluginManager, entry: EntryPoint) -> None:
        distribution = entry.dist.name if entry.dist else "?"
        version = entry.dist.version if entry.dist else "?"
        if entry.name in self._disabled:
            self._infos.append(PluginInfo("plugin", entry.name, version, distribution, False))
            return
        try:
            module = entry.load()
            manager.register(module, name=f"{distribution}:{entry.name}")
            for kind, hook in _KINDS.items():
                for found in getattr(module, hook, tuple)():
                    self._add(kind, found, version, distribution)
        except Exception as error:  # one broken plugin must never end the command line
            reason = f"{type(error).__name__}: {error}"
            self._infos.append(PluginInfo("plugin", entry.name, version, distribution, False, reason))

    def _add(self, kind: str, found: Any, version: str, distribution: str) -> None:
        names = found.schemes if kind == "transport" else (found.name,)
        enabled = found.name not in self._disabled
        error = ""
        for name in names:
            if enabled and (kind, name) in self._objects:
                enabled, error = False, f"the {kind} {name!r} is registered already"
        if enabled:
            self._objects.update({(kind, name): found for name in names})
        shown = f"{found.version}" if kind == "reduction method" else version
        self._infos.append(PluginInfo(kind, found.name, shown, distribution, enabled, error))

    def _find(self, kind: str, name: str) -> Any:
        self._load()
        try:
            return self._objects[kind, name]
        except KeyError:
            known = ", ".join(sorted(n for k, n in self._objects if k == kind)) or "none"
            raise PluginError(
                f"no plugin provides the {kind} {name!r} (there are: {known}); see 'cdr plugins'"
            ) from None

    def infos(self) -> list[PluginInfo]:
        """Everything found, broken and disabled ones included."""
        self._load()
        return list(self._infos)

    def reduction_method(self, name: str) -> ReductionMethod:
        """By name, or by the label ``name/version`` of a payload."""
        bare, _, version = name.partition("/")
        method: ReductionMethod = self._find("reduction method", bare)
        if version and version != str(method.version):
            raise PluginError(f"reduction method {name} is needed, but only {method.label} is installed")
        return method

    def transport(self, url: str, settings: Settings | None = None, *, create: bool = False) -> Transport:
        """Open the storage at ``url``; a plain path is a ``file:`` URL."""
        plugin: TransportPlugin = self._find("transport", _scheme(url))
        storage = plugin.open(url, settings or {}, create=create)
        if self._bucket is None:
            return storage
        from cdr_plugin.transports.throttle import ThrottledTransport

        return ThrottledTransport(storage, self._bucket)

    def limited(self, rate: int | None) -> Plugins:
        """The same plugins, whose storages together move at most ``rate`` bytes per second: nothing that
        opens one gets around the limit. None: these."""
        if rate is None:
            return self
        from cdr_plugin.transports.throttle import TokenBucket

        self._load()
        other = copy(self)
        other._bucket = TokenBucket(rate)
        return other

    def transport_plugin(self, url: str) -> TransportPlugin:
        found: TransportPlugin = self._find("transport", _scheme(url))
        return found

    def repository_format(self, name: str) -> RepositoryFormat:
        found: RepositoryFormat = self._find("repository format", name)
        return found

    def condition(self, name: str) -> Condition:
        found: Condition = self._find("condition", name)
        return found

    def emit(self, event: Event) -> Iterator[str]:
        """Tell all event plugins; yields one line for each that failed."""
        for plugin in self._load().get_plugins():
            handler = getattr(plugin, "cdr_event", None)
            if handler is None:
                continue
            try:
                handler(event=event)
            except Exception as error:
                yield f"event plugin {plugin.__name__}: {type(error).__name__}: {error}"


def _is_foreign(entry: EntryPoint) -> bool:
    return entry.dist is None or entry.dist.name != "cdr-plugin"


def _scheme(url: str) -> str:
    scheme = urlsplit(url).scheme
    return scheme if len(scheme) > 1 else "file"


@cache
def installed() -> Plugins:
    """The plugins of this Python environment."""
    disabled = os.environ.get("CDR_DISABLE_PLUGINS", "")
    return Plugins(disabled=frozenset(name.strip() for name in disabled.split(",") if name.strip()))
