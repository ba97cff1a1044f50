"""How the tiers of one file hang together, and what cannot be.

One tier's ``forward.to`` that is another's inbox makes the other the tier above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cdr_plugin.errors import ConfigError, UserError

from .origin import KeyPath, Origin, collecting, raise_all
from .places import same_place
from .schema import TierConfig


@dataclass(frozen=True)
class Config:
    """A configuration file, checked. ``tiers`` is complete before anybody asks who is above or below."""

    path: Path
    tiers: dict[str, TierConfig]

    def tier(self, name: str) -> TierConfig:
        """UserError when there is none of this name."""
        try:
            return self.tiers[name]
        except KeyError:
            known = ", ".join(self.tiers)
            raise UserError(f"there is no tier {name!r} in {self.path}; there are: {known}") from None

    def tiers_above(self, tier: TierConfig) -> list[TierConfig]:
        """Tiers of this file in whose inboxes ``tier`` puts its parcels, in the order of ``forward.to``."""
        places = map(same_place, tier.forward.to) if tier.forward else ()
        found = {self._by_place[place].name: self._by_place[place] for place in places if place in self._by_place}
        return list(found.values())

    def tier_above(self, tier: TierConfig) -> TierConfig | None:
        """The first of ``tiers_above``; None when the file holds none."""
        return next(iter(self.tiers_above(tier)), None)

    def tiers_below(self, tier: TierConfig) -> list[TierConfig]:
        """Tiers of this file that put parcels into inboxes of ``tier``."""
        return list(self._below.get(tier.name, ()))

    @cached_property
    def _by_place(self) -> dict[str, TierConfig]:
        return {place: tier for tier in self.tiers.values() for place, _ in inboxes(tier)}

    @cached_property
    def _below(self) -> dict[str, list[TierConfig]]:
        """Names of tiers -> who sends to them. Kept: a file may have a thousand tiers, and each asks for those
        below those below it."""
        found: dict[str, list[TierConfig]] = {}
        for tier in self.tiers.values():
            for above in self.tiers_above(tier):
                found.setdefault(above.name, []).append(tier)
        return found


def inboxes(tier: TierConfig) -> Iterator[tuple[str, KeyPath]]:
    """Places of all inboxes of a tier, those of its groups included, with their keys."""
    root: KeyPath = ("tier", tier.name)
    if tier.receive:
        yield from ((same_place(url), (*root, "receive", "inbox")) for url in tier.receive.inbox)
    for name, group in tier.groups.items():
        yield from ((same_place(url), (*root, "group", name, "inbox")) for url in group.inbox)


def check_chain(config: Config, origin: Origin) -> None:
    """ConfigError for what no hierarchy can be, ConfigProblems for several such things."""
    problems: list[ConfigError] = []
    for tier in config.tiers.values():
        with collecting(problems):
            _check_tables(tier, origin)
            _check_tickets(tier, origin)
            _check_groups(config, tier, origin)
    with collecting(problems):
        _check_shared(config, origin)
    with collecting(problems):
        _check_agentless(config, origin)
    with collecting(problems):
        _check_cycles(config, origin)
    raise_all(problems)


def _check_tables(tier: TierConfig, origin: Origin) -> None:
    wrong = _table_conflict(tier)
    if wrong:
        table, reason = wrong
        raise origin.error(("tier", tier.name, *table), reason)


def _table_conflict(tier: TierConfig) -> tuple[tuple[str, ...], str] | None:
    """The table that is wrong, and why."""
    if not tier.source and not tier.receive:
        return (), "does nothing; give it [source] (a client) or [receive] (an intermediate or top tier)"
    if tier.store and not tier.receive:
        return ("store",), "nothing to store; a top tier needs [receive] with 'inbox'"
    if tier.store and tier.forward:
        return ("forward",), "a tier either stores or forwards; make two tiers of it"
    if tier.source and not tier.forward:
        return ("source",), "versions have nowhere to go; a client needs [forward] with 'to'"
    if tier.receive and not tier.store and not tier.forward:
        return ("receive",), "parcels have nowhere to go; add [forward] or [store]"
    if tier.store and tier.store.forget and not tier.store.forget.has_rule:
        return ("store", "forget"), "it says nothing to keep; give it at least one rule, such as keep_last = 10"
    if tier.groups and not tier.receive:
        return ("group",), "groups belong to a tier that receives; for a client write group = \"NAME\""
    if tier.store and tier.store.password_file and tier.store.password_command:
        return ("store", "password_command"), "a password file and a password command are given; choose one"
    return _named_twice(tier)


def _named_twice(tier: TierConfig) -> tuple[tuple[str, ...], str] | None:
    """A list that names one storage under two spellings: each would be worked through twice."""
    lists = [(("forward", "to"), tier.forward.to if tier.forward else ())]
    lists += [(("receive", "inbox"), tier.receive.inbox if tier.receive else ())]
    for key, urls in lists:
        counts = Counter(map(same_place, urls))
        twice = next((url for url in urls if counts[same_place(url)] > 1), None)
        if twice is not None:
            return key, f"{twice} is named twice; once is enough"
    return None


def _check_tickets(tier: TierConfig, origin: Origin) -> None:
    forward = tier.forward
    if forward is None or not forward.ticket or tier.receive:  # who receives has a ticket for each of its groups
        return
    queues = len(forward.to) if forward.mode == "all" else 1
    if len(forward.ticket) != queues:
        reason = f"names {len(forward.ticket)} tickets for {queues} storages; give one for each, in the same order"
        raise origin.error(("tier", tier.name, "forward", "ticket"), reason)


def _check_groups(config: Config, tier: TierConfig, origin: Origin) -> None:
    root: KeyPath = ("tier", tier.name)
    groups = _groups_of(config, tier)
    store = tier.store
    if store and len(groups) > 1 and "{group}" not in store.repository:
        listed = ", ".join(sorted(groups))
        reason = f"the groups {listed} would share one repository; put {{group}} into the location"
        raise origin.error((*root, "store", "repository"), reason)
    if tier.source and not tier.group and config.tier_above(tier) and tier.forward and not tier.forward.ticket:
        raise origin.error(root, "'group' is missing; no ticket says it when the tier above is in the same file")


def _groups_of(config: Config, tier: TierConfig) -> set[str]:
    """Groups that the file shows to come to a tier."""
    groups = set(tier.groups) | agentless_groups(tier)
    waiting, seen = [tier], {tier.name}
    while waiting:
        for below in config.tiers_below(waiting.pop()):
            groups |= agentless_groups(below) | ({below.group} if below.group else set())
            if below.name not in seen:
                seen.add(below.name)
                waiting.append(below)
    return groups


def agentless_groups(tier: TierConfig) -> set[str]:
    """Groups of the clients for which a tier itself makes versions."""
    return {one.group for one in tier.receive.agentless} if tier.receive else set()


def _check_agentless(config: Config, origin: Origin) -> None:
    """No inbox is a folder of plain files, and no two of these belong to one client."""
    taken = {place for tier in config.tiers.values() for place, _ in inboxes(tier)}
    for tier in config.tiers.values():
        clients: set[tuple[str, str]] = set()
        for at, one in enumerate(tier.receive.agentless if tier.receive else ()):
            root: KeyPath = ("tier", tier.name, "receive", "agentless", at)
            if same_place(one.folder) in taken:
                raise origin.error((*root, "folder"), "is an inbox; plain files need a folder of their own")
            if (one.group, one.client) in clients:
                reason = f"group {one.group} has a folder of client {one.client} already; give each its own name"
                raise origin.error((*root, "client"), reason)
            clients.add((one.group, one.client))


def _check_shared(config: Config, origin: Origin) -> None:
    """No two tiers have a folder or an inbox in common."""
    owners: dict[str, str] = {}
    for place, path, what in _owned(config):
        owner = owners.setdefault(place, str(path[1]))
        if owner != path[1]:
            raise origin.error(path, f"tier {owner} has the same {what}; give each tier its own")


def _owned(config: Config) -> Iterator[tuple[str, KeyPath, str]]:
    for tier in config.tiers.values():
        root: KeyPath = ("tier", tier.name)
        yield same_place(str(tier.state)), (*root, "state"), "state or identity folder"
        yield same_place(str(tier.identity)), (*root, "identity"), "state or identity folder"
        for place, path in inboxes(tier):
            yield place, path, "inbox"


def _check_cycles(config: Config, origin: Origin) -> None:
    for tier in config.tiers.values():
        way = _way_back(config, tier)
        if way:
            raise origin.error(("tier", tier.name, "forward", "to"), f"parcels would go in a circle: {way}")


def _way_back(config: Config, start: TierConfig) -> str | None:
    """``a -> b -> a`` when parcels of ``start`` come back to it."""
    ways = [[start.name]]
    seen: set[str] = set()
    while ways:
        way = ways.pop()
        for above in config.tiers_above(config.tiers[way[-1]]):
            if above.name == start.name:
                return " -> ".join([*way, start.name])
            if above.name not in seen:
                seen.add(above.name)
                ways.append([*way, above.name])
    return None


