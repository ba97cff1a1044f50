"""What a tier needs of plugins: which keys name one, and whether it is there and takes its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from cdr_plugin.config.origin import KeyPath, nearest
from cdr_plugin.errors import CdrError, ConfigError, PluginError

if TYPE_CHECKING:
    from cdr_plugin.config.schema import TierConfig
    from cdr_plugin.contracts import Settings
    from cdr_plugin.plugins import Plugins

    from .members import Member


def unmet_methods(member: Member, plugins: Plugins) -> Iterator[ConfigError]:
    """An error for each reduction method and repository format that no plugin provides, or that refuses its
    settings."""
    yield from _unmet(member, plugins, _methods(member.tier, plugins))


def unmet_transports(member: Member, plugins: Plugins) -> Iterator[ConfigError]:
    """An error for each URL whose scheme no plugin of this machine provides."""
    yield from _unmet(member, plugins, _transports(member.tier, plugins))


_Need = tuple[KeyPath, str, str, Callable[[], object]]
"""Key below the tier, kind of plugin, its name, and what finds it."""


def _unmet(member: Member, plugins: Plugins, needs: Iterator[_Need]) -> Iterator[ConfigError]:
    for key, kind, name, find in needs:
        try:
            find()
        except PluginError as error:
            known = [info.name for info in plugins.infos() if info.kind == kind and info.enabled]
            near = nearest(name, known)
            yield member.error(f"{error}" + (f'; did you mean "{near}"?' if near else ""), *key)
        except CdrError as error:
            yield member.error(str(error), *key)


def _methods(tier: TierConfig, plugins: Plugins) -> Iterator[_Need]:
    for name in tier.reduce.methods:
        settings = tier.reduce.settings.get(name, {})
        key = ("reduce", name) if name in tier.reduce.settings else ("reduce", "methods")
        yield key, "reduction method", name, partial(_encoder, plugins, name, settings)
    if tier.store:
        find = partial(plugins.repository_format, tier.store.format)
        yield ("store", "format"), "repository format", tier.store.format, find


def _transports(tier: TierConfig, plugins: Plugins) -> Iterator[_Need]:
    urls = [(("forward", "to"), url) for url in (tier.forward.to if tier.forward else ())]
    if tier.receive:
        urls += [(("receive", "inbox"), url) for url in tier.receive.inbox]
    keys: list[tuple[KeyPath, str]] = [*urls]
    keys += [(("group", name, "inbox"), url) for name, group in tier.groups.items() for url in group.inbox]
    for key, url in keys:
        yield key, "transport", url.partition(":")[0], partial(plugins.transport_plugin, url)


def _encoder(plugins: Plugins, name: str, settings: Settings) -> object:
    return plugins.reduction_method(name).encoder(settings)
