"""From a configuration to tiers that can work: the one place that knows both."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdr_plugin.errors import ConfigError
from cdr_plugin.unbuilt import refuse_unbuilt

# Each kind of tier is imported where it is made: a client's command loads nothing of the top tier's.
if TYPE_CHECKING:
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.config.chain import Config
    from cdr_plugin.config.schema import StoreConfig, TierConfig
    from cdr_plugin.contracts import RepositoryOptions
    from cdr_plugin.intermediate.tier import IntermediateTier
    from cdr_plugin.plugins import Plugins
    from cdr_plugin.reducing.tier import ReducingTier
    from cdr_plugin.reducing.uplink import Uplink
    from cdr_plugin.reporter import Reporter
    from cdr_plugin.tier_state import TierState
    from cdr_plugin.top.tier import TopTier

DEFAULT_GROUP = "default"


def client_tier(config: TierConfig, plugins: Plugins) -> ClientTier:
    """The client that ``config`` describes; it must have ``source`` and ``forward``."""
    from cdr_plugin.client.tier import ClientTier

    if config.forward is None:
        raise ConfigError(f"tier {config.name}: a client needs [tier.{config.name}.forward]")
    refuse_unbuilt(config)
    return ClientTier(
        name=config.client or config.name,
        state_folder=config.state,
        identity_folder=config.identity,
        spool=config.state / "spool",
        to=config.forward.to[0],
        methods=config.reduce.methods,
        plugins=plugins.limited(config.forward.limit),
        group=config.group,
        method_settings=config.reduce.settings,
        keeps_copy=config.reduce.baseline == "copy",
        also_to=config.forward.to[1:],
        spool_limit=config.spool.max_size,
        release=config.forward.release,
        inherits=config.policy == "inherit",
    )


def intermediate_tier(config: TierConfig, plugins: Plugins) -> IntermediateTier:
    """A tier that receives and forwards without reducing."""
    from cdr_plugin.intermediate.tier import IntermediateTier

    if config.receive is None or config.forward is None:
        raise ConfigError(f"tier {config.name}: an intermediate tier needs both 'receive' and 'forward'")
    refuse_unbuilt(config)
    return IntermediateTier(
        name=config.name,
        # A client in the same tier has a spool in that folder, and sweeps it.
        state_folder=config.state if config.source is None else config.state / "moving",
        inboxes=config.receive.inbox,
        to=config.forward.to[0],
        plugins=plugins,
        receive_limit=config.receive.limit,
        forward_limit=config.forward.limit,
        also_to=config.forward.to[1:],
        spool_limit=config.spool.max_size,
        inbox_limit=config.receive.max_size,
        inbox_layout=config.receive.layout,
    )


def top_tiers(config: Config, tier: TierConfig, plugins: Plugins, reporter: Reporter) -> Iterator[TopTier]:
    """One top tier per group: those of its ``group`` tables, else of the clients below it."""
    from cdr_plugin.top.tier import TopTier

    if tier.store is None or tier.receive is None:
        raise ConfigError(f"tier {tier.name}: a top tier needs both 'receive' and 'store'")
    refuse_unbuilt(tier)
    groups, limited = groups_of(config, tier), plugins.limited(tier.receive.limit)
    if len(groups) > 1 and "{group}" not in tier.store.repository:
        raise ConfigError(f"tier {tier.name}: several groups need '{{group}}' in 'store.repository': nothing crosses")
    for group in groups:
        own = tier.groups.get(group)
        inboxes = own.inbox if own is not None and own.inbox else tier.receive.inbox
        yield TopTier(
            name=tier.name,
            group=group,
            state_folder=tier.state / group,
            identity_folder=tier.identity,
            inboxes=inboxes,
            format=tier.store.format,
            repository=tier.store.repository_of(group),
            options=repository_options(tier.store, group, tier.state / group / "repository", reporter),
            plugins=plugins.limited(own.limit) if own is not None and own.limit else limited,
            quota=own.quota if own is not None else None,
        )


def receiving_tiers(config: Config, tier: TierConfig, plugins: Plugins, reporter: Reporter) -> Iterator[TopTier]:
    """What a tier is for each of its groups, where it opens what it takes; none for one that moves it unopened."""
    if tier.store is not None:
        yield from top_tiers(config, tier, plugins, reporter)
    elif is_reducing(tier, plugins):
        yield from reducing_tiers(config, tier, plugins, reporter)


def is_reducing(tier: TierConfig, plugins: Plugins) -> bool:
    """Does a tier that receives and forwards open what it passes on? It does where one of its methods has
    something to do there; ConfigError for methods that have not."""
    if tier.receive is None or tier.forward is None or tier.source is not None or not tier.reduce.methods:
        return False
    for name in tier.reduce.methods:
        settings = tier.reduce.settings.get(name, {})
        if plugins.reduction_method(name).reducer(settings) is None:
            raise ConfigError(f"tier {tier.name}: the method {name!r} does nothing at a tier that passes on; remove it")
    return True


def reducing_tiers(config: Config, tier: TierConfig, plugins: Plugins, reporter: Reporter) -> Iterator[ReducingTier]:
    """One per group of an intermediate tier with reduction methods, as ``top_tiers``."""
    from cdr_plugin.config.adopted import part_of
    from cdr_plugin.contracts import RepositoryOptions
    from cdr_plugin.reducing.tier import ReducingTier, retained_password

    if tier.receive is None or tier.forward is None:
        raise ConfigError(f"tier {tier.name}: an intermediate tier needs both 'receive' and 'forward'")
    refuse_unbuilt(tier)
    limited = plugins.limited(tier.receive.limit)
    for group in groups_of(config, tier):
        own, folder, part = tier.groups.get(group), tier.state / group, part_of(tier, group).in_force
        assert part.receive is not None
        password = partial(retained_password, tier.identity, group)
        yield ReducingTier(
            name=tier.name,
            group=group,
            state_folder=folder,
            identity_folder=tier.identity,
            inboxes=own.inbox if own is not None and own.inbox else tier.receive.inbox,
            format="restic",
            repository=str(folder / "retained"),
            options=RepositoryOptions(password=password, state=folder / "repository", reporter=reporter),
            plugins=plugins.limited(own.limit) if own is not None and own.limit else limited,
            quota=own.quota if own is not None else None,
            uplinks=list(_uplinks(part, group, plugins)),
            methods=tier.reduce.methods,
            method_settings=tier.reduce.settings,
            retain_s=part.receive.retain.for_s,
            retain_bytes=part.receive.retain.max_size,
        )


def uplinks_of(tier: TierConfig, plugins: Plugins) -> Iterator[Uplink]:
    """The ways up of a tier that reduces, of every group that has been set up."""
    from cdr_plugin.config.adopted import part_of

    for folder in sorted(tier.state.glob("*/retained")):
        group = folder.parent.name
        yield from _uplinks(part_of(tier, group).in_force, group, plugins)


def _uplinks(tier: TierConfig, group: str, plugins: Plugins) -> Iterator[Uplink]:
    """With ``forward.mode = "all"`` of different hierarchies. ``tier``: as it is for the group."""
    from cdr_plugin.config.queues import ways_up
    from cdr_plugin.reducing.uplink import Uplink

    assert tier.forward is not None
    for name, places in ways_up(tier.forward):
        folder = tier.state / group / name
        yield Uplink(
            name=tier.name,
            state_folder=folder,
            identity_folder=tier.identity,
            spool=folder / "spool",
            to=places[0],
            also_to=places[1:],
            methods=(),
            plugins=plugins.limited(tier.forward.limit),
            group=group,
            spool_limit=tier.spool.max_size,
            inherits=tier.policy == "inherit",
        )


def tier_state(config: TierConfig) -> TierState:
    """What a tier remembers as a whole: when it last sent and received. To be closed."""
    from cdr_plugin.tier_state import TierState

    return TierState(config.state / "tier", "", 1)


def groups_of(config: Config, tier: TierConfig) -> list[str]:
    """The groups that a receiving tier serves, as far as this file tells."""
    from cdr_plugin.config.chain import agentless_groups

    named = set(tier.groups) | ({tier.group} if tier.group else set()) | agentless_groups(tier)
    for below in _tiers_below(config, tier):
        named |= agentless_groups(below) | ({below.group} if below.source and below.group else set())
    return sorted(named) or [DEFAULT_GROUP]


def _tiers_below(config: Config, tier: TierConfig) -> Iterator[TierConfig]:
    for below in config.tiers_below(tier):
        yield below
        yield from _tiers_below(config, below)


def repository_options(store: StoreConfig, group: str, state: Path, reporter: Reporter) -> RepositoryOptions:
    from cdr_plugin.contracts import RepositoryOptions
    from cdr_plugin.passwords import read_password

    file, command = store.password_file_of(group), store.password_command_of(group)
    extra: dict[str, Any] = {} if store.pack_size is None else {"pack_size": store.pack_size}
    return RepositoryOptions(
        password=lambda: read_password(file, command),
        state=state,
        compression=store.compression,
        settings=store.settings.get(store.format, {}),
        reporter=reporter,
        **extra,
    )


def client_facts(zone: str, stated: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a client says of itself when it enrols; ``stated``: what its configuration adds."""
    return {**(stated or {}), "host": platform.node()[:255], "system": platform.system()[:255], "timezone": zone}


def tier_facts() -> dict[str, str]:
    """What a tier states of itself when it enrols above."""
    return {"host": platform.node()[:255], "system": platform.system()[:255]}


def own_folders(config: Config, plugins: Plugins) -> list[Path]:
    """Every folder of this machine that belongs to CDR itself: never part of a backup."""
    found: list[Path] = []
    for tier in config.tiers.values():
        found += [tier.state, tier.identity]
        if tier.receive is not None:
            found += _folders(plugins, tier.receive.inbox)
        if tier.forward is not None:
            found += _folders(plugins, tier.forward.to)
        if tier.store is not None:
            format_ = plugins.repository_format(tier.store.format)
            locations = {tier.store.repository_of(group) for group in groups_of(config, tier)}
            found += filter(None, map(format_.local_folder, sorted(locations)))
    return found


def _folders(plugins: Plugins, urls: tuple[str, ...]) -> list[Path]:
    return [folder for url in urls if (folder := plugins.transport_plugin(url).local_folder(url)) is not None]
