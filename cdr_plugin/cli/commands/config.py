"""``cdr config check|show``: is the configuration sound, and what is in force?"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.config import Config, TierConfig
from cdr_plugin.errors import ConfigError, PluginError, UserError

if TYPE_CHECKING:
    from cdr_plugin.contracts import Settings
    from cdr_plugin.plugins import Plugins

HELP = """check: say whether the configuration is sound and the plugins that it needs are there.
show: print the configuration in force, with all defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("check", "show"))


def run(context: Context) -> int:
    return _check(context) if context.options.action == "check" else _show(context)


def _show(context: Context) -> int:
    from cdr_plugin.config.effective import as_document, as_toml

    config = Config(context.config.path, {tier.name: tier for tier in context.tiers})
    context.output.document({"config": str(config.path), **as_document(config)})
    context.output.line(f"# {config.path}\n{as_toml(config)}".rstrip("\n"))
    return 0


def _check(context: Context) -> int:
    config = context.config
    for tier in context.tiers:
        _check_plugins(tier, config, context.plugins)
    rows = [_row(tier, config) for tier in context.tiers]
    keys = ("name", "role", "from", "to")
    tiers = [dict(zip(keys, row, strict=True)) for row in rows]
    context.output.summary({"config": str(config.path), "tiers": tiers})
    shown = [(name, role, ", ".join(below), ", ".join(above)) for name, role, below, above in rows]
    context.output.line(f"{config.path}: sound\n\n{format_table(('tier', 'role', 'from', 'to'), shown)}")
    return 0


def _row(tier: TierConfig, config: Config) -> tuple[str, str, list[str], list[str]]:
    below = [other.name for other in config.tiers_below(tier)]
    above = [other.name for other in config.tiers_above(tier)]
    places = list(tier.forward.to) if tier.forward else []
    if tier.store:
        places = [tier.store.repository]
    return tier.name, tier.role.value, below, above or places


def _check_plugins(tier: TierConfig, config: Config, plugins: Plugins) -> None:
    """ConfigError that names the key whose plugin is missing or refuses its settings."""
    for key, find in _needs(tier, plugins):
        try:
            find()
        except (PluginError, UserError) as error:
            raise ConfigError(f"{config.path}: tier.{tier.name}.{key}: {error}") from None


def _needs(tier: TierConfig, plugins: Plugins) -> Iterator[tuple[str, Callable[[], object]]]:
    """Keys of a tier that name plugins, and what finds each."""
    for name in tier.reduce.methods:
        yield f"reduce ({name})", partial(_encoder, plugins, name, tier.reduce.settings.get(name, {}))
    urls = [("forward.to", url) for url in (tier.forward.to if tier.forward else ())]
    urls += [("receive.inbox", url) for url in (tier.receive.inbox if tier.receive else ())]
    urls += [(f"group.{name}.inbox", url) for name, group in tier.groups.items() for url in group.inbox]
    for key, url in urls:
        yield key, partial(plugins.transport_plugin, url)
    if tier.store:
        yield "store.format", partial(plugins.repository_format, tier.store.format)


def _encoder(plugins: Plugins, name: str, settings: Settings) -> object:
    return plugins.reduction_method(name).encoder(settings)
