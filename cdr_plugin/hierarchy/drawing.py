"""What a drawing of a hierarchy shows, whatever it is drawn with: boxes and the arrows between them.

Boxes are tiers, agentless clients and storages that no tier of these files receives from. Arrows run
from below to above, the way of the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from cdr_plugin.assembly import groups_of
from cdr_plugin.config.places import scheme_of
from cdr_plugin.config.schema import Role

from .findings import Finding, Severity, group_of
from .members import Hierarchy, Link, Member
from .words import arrow_words, tier_words


class Kind(Enum):
    """Of boxes; the value is what users read."""

    CLIENT = "client"
    CLIENT_TOO = "client and intermediate tier"
    INTERMEDIATE = "intermediate tier"
    TOP = "top tier"
    TOP_TOO = "client and top tier"
    AGENTLESS = "agentless client"
    ELSEWHERE = "not in these files"


@dataclass(frozen=True, slots=True)
class Box:
    """``id`` is unique in a drawing; ``lines`` say what it does, ``groups`` whose data passes it."""

    id: str
    title: str
    kind: Kind
    lines: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Arrow:
    """``words``: the scheme, then when and how fast; ``place``: the whole URL."""

    below: str
    above: str
    words: tuple[str, ...]
    place: str = ""
    is_wrong: bool = False


@dataclass(frozen=True, slots=True)
class Drawing:
    """Boxes in the order of files, tops as they come; ``notes`` are findings, ``errors`` those that are wrong."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    errors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def drawing_of(hierarchy: Hierarchy, found: Sequence[Finding]) -> Drawing:
    """Everything that there is to draw; tiers and arrows with errors are marked."""
    wrong = [finding for finding in found if finding.severity is Severity.ERROR]
    right = [finding for finding in found if finding.severity is not Severity.ERROR]
    marked = {id_ for finding in wrong for id_ in finding.about}
    marked_arrows = {arrow for finding in wrong for arrow in finding.arrows}
    boxes = [_box(hierarchy, member, marked) for member in hierarchy.members]
    arrows: list[Arrow] = []
    for link in hierarchy.links:
        arrow = _arrow(link, marked_arrows)
        arrows.append(arrow)
        if link.above is None and all(box.id != arrow.above for box in boxes):
            boxes.append(Box(arrow.above, arrow.above, Kind.ELSEWHERE, is_wrong=arrow.is_wrong))
    for box, arrow in _agentless(hierarchy):
        boxes.append(box)
        arrows.append(arrow)
    errors, notes = (tuple(shown(finding.text) for finding in some) for some in (wrong, right))
    return Drawing(tuple(boxes), tuple(arrows), errors, notes)


def shown(text: str) -> str:
    """One line that is text in every format: URLs and commands may hold anything."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _box(hierarchy: Hierarchy, member: Member, marked: set[str]) -> Box:
    kind = _kind(member)
    lines = tuple(map(shown, tier_words(member.tier)))
    return Box(member.id, member.id, kind, lines, _groups(hierarchy, member), member.id in marked)


def _kind(member: Member) -> Kind:
    has_source = member.tier.source is not None
    if member.tier.role is Role.TOP:
        return Kind.TOP_TOO if has_source else Kind.TOP
    if member.tier.role is Role.INTERMEDIATE:
        return Kind.CLIENT_TOO if has_source else Kind.INTERMEDIATE
    return Kind.CLIENT


def _groups(hierarchy: Hierarchy, member: Member) -> tuple[str, ...]:
    """Of a client its own; of a receiver all that come to it, as far as these files tell."""
    if member.tier.store:
        return tuple(groups_of(member.config, member.tier))
    found = {group_of(one) for one in (member, *hierarchy.all_below(member)) if one.tier.source}
    if member.tier.receive:
        found |= {*member.tier.groups, *(agentless.group for agentless in member.tier.receive.agentless)}
    return tuple(sorted(filter(None, found)))


def _arrow(link: Link, marked_arrows: set[tuple[str, str]]) -> Arrow:
    forward = link.below.tier.forward
    assert forward is not None  # it has a link
    above = link.above.id if link.above else link.url
    words = tuple(map(shown, arrow_words(forward, link.at)))
    return Arrow(link.below.id, shown(above), words, shown(link.url), (link.below.id, above) in marked_arrows)


def _agentless(hierarchy: Hierarchy) -> Iterator[tuple[Box, Arrow]]:
    for member in hierarchy.members:
        for one in member.tier.receive.agentless if member.tier.receive else ():
            id_ = f"{one.client} at {member.id}"
            box = Box(id_, one.client, Kind.AGENTLESS, ("copies plain files",), (one.group,))
            yield box, Arrow(id_, member.id, (scheme_of(one.folder),), shown(one.folder))
