"""The tiers of several files as one hierarchy.

Within a file, a ``forward.to`` that is an ``inbox`` joins two tiers. So it does across files, unless several
machines have a folder of that name. One storage has another name on each machine that sees it, so two more
things join: ``receive.seen_as`` of the tier that receives, and a ticket that names the tier above.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from cdr_plugin.config.chain import Config, inboxes
from cdr_plugin.config.load import Loaded
from cdr_plugin.config.origin import KeyPath, Origin
from cdr_plugin.config.places import same_place, scheme_of
from cdr_plugin.config.schema import TierConfig
from cdr_plugin.errors import ConfigError

from .tickets import Held, read_tickets, ticket_for


@dataclass(frozen=True, eq=False)
class Member:
    """One tier of one file. ``id``: its name, with that of the file where others have the same name."""

    id: str
    tier: TierConfig
    config: Config
    origin: Origin

    def error(self, reason: str, *key: str | int) -> ConfigError:
        """As ``Origin.error``, for a key of this tier."""
        path: KeyPath = ("tier", self.tier.name, *key)
        return self.origin.error(path, reason)

    @cached_property
    def places(self) -> frozenset[str]:
        """Its inboxes, those of its groups too, under every name that the file gives them."""
        seen_as = self.tier.receive.seen_as if self.tier.receive else ()
        return frozenset((*(place for place, _ in inboxes(self.tier)), *map(same_place, seen_as)))

    @cached_property
    def tickets(self) -> tuple[Held, ...]:
        """What is known of each of ``forward.ticket``."""
        return read_tickets(self.tier)


@dataclass(frozen=True, slots=True)
class Link:
    """One URL of ``forward.to`` and the tier that receives there; None: none of these files."""

    below: Member
    at: int
    above: Member | None = None
    rivals: tuple[Member, ...] = ()
    """Several that may be meant, when it cannot be told which."""

    @property
    def url(self) -> str:
        assert self.below.tier.forward is not None
        return self.below.tier.forward.to[self.at]


class Hierarchy:
    """Tiers in the order of files, and how parcels go between them."""

    def __init__(self, files: Sequence[Loaded]) -> None:
        self.files = tuple(files)
        self.members = tuple(_members(files))
        by_url = [
            self._by_url(member, at)
            for member in self.members
            for at in range(len(member.tier.forward.to) if member.tier.forward else 0)
        ]
        fed = {link.above for link in by_url if link.above}
        self.links = tuple(link if link.above or link.rivals else self._by_ticket(link, fed) for link in by_url)
        self.fed = frozenset(link.above for link in self.links if link.above)

    def above(self, member: Member) -> list[Member]:
        return list(dict.fromkeys(link.above for link in self.links if link.below is member and link.above))

    def below(self, member: Member) -> list[Member]:
        return list(dict.fromkeys(link.below for link in self.links if link.above is member))

    def all_above(self, member: Member) -> list[Member]:
        """Every tier that its parcels come to; itself too where they go in a circle."""
        return _closure(member, self.above)

    def all_below(self, member: Member) -> list[Member]:
        return _closure(member, self.below)

    def _by_url(self, member: Member, at: int) -> Link:
        assert member.tier.forward is not None
        place = same_place(member.tier.forward.to[at])
        found = [other for other in self.members if place in other.places]
        here = [other for other in found if other.config is member.config]
        found = here or found
        if len(found) == 1:
            return Link(member, at, found[0])
        return Link(member, at, rivals=tuple(found))

    def _by_ticket(self, link: Link, fed: set[Member]) -> Link:
        """The ticket names the next tier that opens segments. Another that moves them unopened may stand
        between, which no ticket tells: joined only when nobody else can be meant."""
        ticket = ticket_for(link.below.tier, link.below.tickets, link.at)
        if ticket is None:
            return link
        named = ticket.tiers[0].name
        named_so = [one for one in self.members if one.tier.name == named and one.config is not link.below.config]
        movers = [
            one
            for one in self.members
            if one not in fed and is_mover(one.tier) and one.config is not link.below.config
        ]
        possible = [*named_so, *movers]
        if len(possible) == 1 and named_so:
            return Link(link.below, link.at, possible[0])
        return Link(link.below, link.at, rivals=tuple(possible) if named_so else ())


def is_mover(tier: TierConfig) -> bool:
    """A tier that passes segments on unopened: no ticket tells of it."""
    return tier.receive is not None and tier.forward is not None and not tier.source and not tier.reduce.methods


def can_be_the_same(url: str, member: Member) -> bool:
    """May ``url`` be an inbox of ``member`` as another machine sees it? An address and a folder, or two
    kinds of address: that cannot be told from their spelling."""
    receive = member.tier.receive
    return receive is not None and any(scheme_of(inbox) != scheme_of(url) for inbox in receive.inbox)


def _members(files: Sequence[Loaded]) -> Iterator[Member]:
    counts = Counter(name for file in files for name in file.config.tiers)
    for number, file in enumerate(files, start=1):
        same_named = sum(other.origin.file.name == file.origin.file.name for other in files) > 1
        label = f"{file.origin.file.name} {number}" if same_named else file.origin.file.name
        for name, tier in file.config.tiers.items():
            id_ = f"{name} ({label})" if counts[name] > 1 else name
            yield Member(id_, tier, file.config, file.origin)


def _closure(start: Member, step: object) -> list[Member]:
    assert callable(step)
    found: list[Member] = []
    waiting = list(step(start))
    while waiting:
        member = waiting.pop(0)
        if member not in found:
            found.append(member)
            waiting += step(member)
    return found
