"""What does not fit together in a hierarchy of several files, each thing with file, line and key."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from cdr_plugin.assembly import groups_of
from cdr_plugin.config.chain import inboxes
from cdr_plugin.config.origin import nearest
from cdr_plugin.config.places import scheme_of
from cdr_plugin.errors import ConfigError
from cdr_plugin.unbuilt import refuse_unbuilt

from .members import Hierarchy, Link, Member, can_be_the_same
from .needs import unmet_methods, unmet_transports

if TYPE_CHECKING:
    from cdr_plugin.config.schema import TierConfig
    from cdr_plugin.plugins import Plugins


class Severity(Enum):
    """``ERROR``: it cannot work so. ``INFO``: worth knowing; another file may explain it."""

    ERROR = "error"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """``about``: the IDs of the tiers that a drawing marks; ``arrows``: those of the tiers at both ends of
    the arrows, at the upper end a URL where no tier receives."""

    severity: Severity
    text: str
    about: tuple[str, ...] = ()
    arrows: tuple[tuple[str, str], ...] = ()


def findings(
    hierarchy: Hierarchy, plugins: Plugins, *, is_whole: bool, is_here: bool, now_s: float | None = None
) -> Iterator[Finding]:
    """Everything, errors of single files first.

    ``is_whole``: these files are meant to be all of it, so that, with a top tier among them, a forward that
    nobody receives is an error. ``is_here``: they are to be used, so that tickets and transports should be there.
    """
    for file in hierarchy.files:
        yield from (Finding(Severity.ERROR, str(problem)) for problem in file.problems)
    for member in hierarchy.members:
        yield from _of(member, unmet_methods(member, plugins))
        yield from _of(member, unmet_transports(member, plugins), Severity.ERROR if is_here else Severity.INFO)
        yield from _of(member, _unbuilt(member), Severity.INFO) if is_here else ()
        yield from _tickets(member, is_here, time.time() if now_s is None else now_s)
    is_whole = is_whole and any(member.tier.store for member in hierarchy.members)
    for link in hierarchy.links:
        yield from _forward(hierarchy, link, is_whole)
    for member in hierarchy.members:
        yield from _groups(hierarchy, member)
    yield from _shared(hierarchy)
    yield from _same_names(hierarchy)
    yield from _circles(hierarchy)


def _of(member: Member, errors: Iterable[ConfigError], severity: Severity = Severity.ERROR) -> Iterator[Finding]:
    yield from (Finding(severity, str(error), (member.id,)) for error in errors)


def _unbuilt(member: Member) -> Iterator[ConfigError]:
    try:
        refuse_unbuilt(member.tier)
    except ConfigError as error:
        yield member.error(str(error).partition(": ")[2])


# --- tickets ---


def _tickets(member: Member, is_here: bool, now_s: float) -> Iterator[Finding]:
    is_set_up = _is_set_up(member.tier)
    for held in member.tickets:
        said = f"ticket {held.path}: {held.problem}"
        if held.is_missing:
            if is_set_up:
                continue  # it was adopted, and may go
            said += "; 'cdr ticket' on the tier above prints one"
            severity = Severity.ERROR if is_here else Severity.INFO
        elif held.ticket is None:
            severity = Severity.ERROR
        elif held.ticket.group not in _own_groups(member, held.ticket.group):
            severity = Severity.ERROR
            own = ", ".join(map(repr, _own_groups(member, held.ticket.group)))
            said = f"the ticket {held.path} is for group {held.ticket.group!r}, the tier says {own}"
        elif held.ticket.expires_s < now_s and not is_set_up:
            severity = Severity.ERROR
            said = f"the ticket {held.path} has expired; 'cdr ticket' on the tier above prints another"
        else:
            continue
        yield Finding(severity, str(member.error(said, "forward", "ticket")), (member.id,))


def _is_set_up(tier: TierConfig) -> bool:
    """Has the tier adopted its tickets, so that their files may go?"""
    return (tier.state / "state.db").exists() or (tier.receive is not None and (tier.identity / "register.db").exists())


def _own_groups(member: Member, otherwise: str) -> list[str]:
    """The groups that a ticket of the tier may be for."""
    if member.tier.receive and not member.tier.source:
        return groups_of(member.config, member.tier)
    return [member.tier.group or otherwise]


def group_of(member: Member) -> str | None:
    """The group of a client, as its file or its ticket says."""
    if member.tier.group:
        return member.tier.group
    return next((held.ticket.group for held in member.tickets if held.ticket), None)


# --- forwards ---


def _forward(hierarchy: Hierarchy, link: Link, is_whole: bool) -> Iterator[Finding]:
    if link.above:
        return
    member, url = link.below, link.url
    if link.rivals:
        names = " or ".join(one.id for one in link.rivals)
        reason = f"{url} may be {names}; write it, as this machine sees it, into receive.seen_as of the one that it is"
        yield _finding(Severity.INFO, member, reason, url)
        return
    not_above = {member, *hierarchy.all_below(member)}
    candidates = [one for one in hierarchy.members if one not in not_above and can_be_the_same(url, one)]
    candidates.sort(key=lambda one: one in hierarchy.fed)  # whom nobody sends to is meant rather
    candidates = _other_ways(hierarchy, member) + candidates
    if not is_whole or candidates:
        guess = f"; if it is an inbox of {candidates[0].id}, write it into receive.seen_as there" if candidates else ""
        yield _finding(Severity.INFO, member, f"{url} is not in these files{guess}", url)
        return
    known = [inbox for one in hierarchy.members if one.tier.receive for inbox in one.tier.receive.inbox]
    near = nearest(url, known) or next((inbox for inbox in known if scheme_of(inbox) == scheme_of(url)), "")
    advice = f"did you mean {near!r}? If it is the same under another name" if near else "if another machine has it"
    reason = f"no inbox of these files is {url}; {advice}, write it into receive.seen_as of the tier that receives"
    yield _finding(Severity.ERROR, member, reason, url)


def _other_ways(hierarchy: Hierarchy, member: Member) -> list[Member]:
    """The tiers that receive at others of its URLs: unless it replicates, this one may be the same place."""
    forward = member.tier.forward
    return hierarchy.above(member) if forward is not None and forward.mode != "all" else []


def _finding(severity: Severity, member: Member, reason: str, url: str) -> Finding:
    return Finding(severity, str(member.error(reason, "forward", "to")), (member.id,), ((member.id, url),))


# --- what crosses files ---


def _groups(hierarchy: Hierarchy, member: Member) -> Iterator[Finding]:
    """A client whose group the top tier, in another file, does not have: nothing of it would be taken."""
    group = group_of(member) if member.tier.source else None
    if group is None:
        return
    by_ticket = member.tier.group is None
    for top in hierarchy.all_above(member):
        if top.tier.store is None or top.config is member.config:
            continue
        served = groups_of(top.config, top.tier)
        if group not in served:
            there = ", ".join(served)
            reason = f"{top.id} has no group {group!r} (there are: {there}); add [tier.{top.tier.name}.group.{group}]"
            key = ("forward", "ticket") if by_ticket else ("group",)
            yield Finding(Severity.ERROR, str(member.error(reason, *key)), (member.id,))


def _shared(hierarchy: Hierarchy) -> Iterator[Finding]:
    """Two tiers of two files with one inbox. Folders of one name are on as many machines as there are files."""
    owners: dict[str, Member] = {}
    for member in hierarchy.members:
        for place, path in inboxes(member.tier):
            owner = owners.setdefault(place, member)
            if owner.config is not member.config and scheme_of(place) != "file":
                reason = f"{owner.id} has the same inbox; give each tier its own"
                yield Finding(Severity.ERROR, str(member.origin.error(path, reason)), (owner.id, member.id))


def _same_names(hierarchy: Hierarchy) -> Iterator[Finding]:
    """Two clients of one group with one name: the second could not enrol."""
    for top in hierarchy.members:
        names: dict[tuple[str, str], Member] = {}
        for member in hierarchy.all_below(top) if top.tier.store else ():
            group = group_of(member)
            if not member.tier.source or not group:
                continue
            first = names.setdefault((group, member.tier.name), member)
            if first is not member:
                reason = f"{first.id} has the same name in group {group}; each client of a group needs its own"
                yield Finding(Severity.ERROR, str(member.error(reason)), (first.id, member.id))


def _circles(hierarchy: Hierarchy) -> Iterator[Finding]:
    """Cycles over several files; those of one are errors of the file already."""
    reported: set[Member] = set()
    for start in hierarchy.members:
        way = _way_back(hierarchy, start)
        if way is None or reported.intersection(way) or len({id(member.config) for member in way}) < 2:
            continue
        reported.update(way)
        ids = [member.id for member in way]
        reason = f"parcels would go in a circle: {' -> '.join(ids)}"
        arrows = tuple(itertools.pairwise(ids))
        yield Finding(Severity.ERROR, str(start.error(reason, "forward", "to")), tuple(ids), arrows)


def _way_back(hierarchy: Hierarchy, start: Member) -> list[Member] | None:
    ways, seen = [[start]], set[Member]()
    while ways:
        way = ways.pop(0)
        for above in hierarchy.above(way[-1]):
            if above is start:
                return [*way, start]
            if above not in seen:
                seen.add(above)
                ways.append([*way, above])
    return None
