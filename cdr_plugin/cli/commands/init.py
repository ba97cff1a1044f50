"""``cdr init``: make whatever the chosen tiers need and do not have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from cdr_plugin.assembly import (
    client_facts,
    client_tier,
    groups_of,
    intermediate_tier,
    is_reducing,
    receiving_tiers,
    reducing_tiers,
    tier_facts,
    top_tiers,
)
from cdr_plugin.cli.context import Context
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.config import TierConfig
from cdr_plugin.config.agentless import agentless_clients
from cdr_plugin.config.chain import inboxes
from cdr_plugin.config.places import same_place
from cdr_plugin.config.schema import Role
from cdr_plugin.errors import NotEnrolledError, UserError
from cdr_plugin.identity.register import SenderKind
from cdr_plugin.identity.ticket import ticket_group
from cdr_plugin.parcel.layout import Layout
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.timezone import local_zone_name
from cdr_plugin.top.room import post_notes
from cdr_plugin.top.tier import TopTier

HELP = """Make identity, state, inbox and repository where they are missing. A repository that restic made is
kept with its history: see 'cdr adopt'.

Tiers of one file are enrolled with each other; a client whose top tier is elsewhere takes the
ticket that its configuration names, or 'cdr enroll'. Nothing that exists is changed."""

_MADE, _ADOPTED = "made ", "adopted "
_ORDER = (Role.TOP, Role.INTERMEDIATE, Role.CLIENT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    done = list(initialise(context))
    for line in done:
        context.output.line(line)
    if not done:
        context.output.line("nothing to do: everything is there")
    made = [line.removeprefix(_MADE) for line in done if line.startswith(_MADE)]
    adopted = [line.removeprefix(_ADOPTED) for line in done if line.startswith(_ADOPTED)]
    context.output.summary({"made": made, "adopted": adopted})
    return 0


def initialise(context: Context) -> Iterator[str]:
    """Make what is missing, upper tiers first, since tickets come from above; a line for each thing,
    which begins with ``made`` or ``adopted``."""
    makers: dict[Role, Callable[[Context, TierConfig], Iterator[str]]] = {
        Role.TOP: _init_top,
        Role.INTERMEDIATE: _init_intermediate,
        Role.CLIENT: _init_client,
    }
    for role in _ORDER:
        for tier in sorted(context.queues, key=lambda one: _below_the_top(context, one)):
            if role in tier.roles:
                yield from makers[role](context, tier)


def _below_the_top(context: Context, tier: TierConfig) -> int:
    """How many tiers of the file are above this one: each has its ticket from one that is made before."""
    above = context.config.tiers_above(tier)
    return 1 + max((_below_the_top(context, other) for other in above), default=0)


def _init_top(context: Context, config: TierConfig) -> Iterator[str]:
    for top in top_tiers(context.config, config, context.plugins, context.output):
        yield from (f"{what} ({config.name}, group {top.group})" for what in top.init())
        _post_notes(context, config, top)
        top.close()
    yield from _init_agentless(context, config)


def _post_notes(context: Context, config: TierConfig, tier: TopTier) -> None:
    """Senders read them before anything was received."""
    assert config.receive is not None
    post_notes(tier, config.receive.max_size, Layout(config.receive.layout), context.output)


def _init_intermediate(context: Context, config: TierConfig) -> Iterator[str]:
    if not is_reducing(config, context.plugins):
        if intermediate_tier(config, context.plugins).init():
            yield f"made state and inbox of {config.name}"
        yield from _init_agentless(context, config)
        return
    for tier in reducing_tiers(context.config, config, context.plugins, context.output):
        with closing(tier):
            yield from (f"{what} ({config.name}, group {tier.group})" for what in tier.init())
            _post_notes(context, config, tier)
            for at, uplink in enumerate(tier.uplinks):
                yield from _enroll_uplink(context, config, tier, uplink, at)
    yield from _init_agentless(context, config)


def _enroll_uplink(
    context: Context, config: TierConfig, tier: ReducingTier, uplink: Uplink, at: int
) -> Iterator[str]:
    if uplink.is_enrolled:
        return
    text = _ticket_for_tier(context, config, tier, uplink, at)
    if text is None:
        context.output.note(
            f"tier {config.name}, group {tier.group}: not enrolled above yet; run 'cdr enroll TICKET -T {config.name}' "
            "with a ticket made by 'cdr ticket --for-tier'"
        )
        return
    tier.enroll(text, uplink, tier_facts())
    yield f"made enrolment of tier {config.name} in group {tier.group}"


def _ticket_for_tier(
    context: Context, config: TierConfig, tier: ReducingTier, uplink: Uplink, at: int
) -> str | None:
    """From the files that the configuration names, one for each group and storage, else from a tier of the file."""
    assert config.forward is not None
    if config.forward.ticket:
        texts = [read_text(path) for path in config.forward.ticket]
        mine = [text for text in texts if ticket_group(text) == tier.group]
        if at < len(mine):
            return mine[at]
        return None
    above = next((other for other in context.config.tiers_above(config) if _takes(other, uplink)), None)
    return None if above is None else _issued(context, above, tier.group, SenderKind.TIER)


def _takes(tier: TierConfig, uplink: Uplink) -> bool:
    places = {place for place, _ in inboxes(tier)}
    return any(same_place(url) in places for url in uplink.storages)


def _init_agentless(context: Context, config: TierConfig) -> Iterator[str]:
    """The clients for which the tier itself makes versions; it enrols them like any other."""
    for one in agentless_clients(config):
        how = f"name a ticket for it with 'ticket' in its table [[tier.{config.name}.receive.agentless]]"
        yield from _init_client(context, one, how)


def _init_client(context: Context, config: TierConfig, how: str = "") -> Iterator[str]:
    """``how``: what enrols it where no ticket is found."""
    client = client_tier(config, context.plugins)
    assert config.source is not None  # it has the client's role
    if client.init(config.source.timezone or local_zone_name()):
        yield f"made identity and state of client {config.name}"
    try:
        _ = client.ticket
    except NotEnrolledError:
        text = _ticket_for(context, config, client)
        if text is None:
            how = how or f"run 'cdr enroll TICKET -T {config.name}'"
            context.output.note(f"client {config.name}: not enrolled yet; {how}")
            return
        group = client.enroll(text, client_facts(client.zone_name, config.facts)).group
        yield f"made enrolment of client {config.name} in group {group}"


def _ticket_for(context: Context, config: TierConfig, client: ClientTier) -> str | None:
    """From the file that the configuration names, else from the next tier of the same file that opens what it takes."""
    if config.forward is not None and config.forward.ticket:
        return read_text(config.forward.ticket[0])
    above = context.config.tier_above(config)
    return None if above is None else _issued(context, above, config.group, SenderKind.CLIENT)


def _issued(context: Context, tier: TierConfig, group: str | None, kind: SenderKind) -> str | None:
    """A ticket of this tier, or of the next one above it that has keys; None where the file holds none."""
    while tier.store is None and not is_reducing(tier, context.plugins):
        above = context.config.tier_above(tier)
        if above is None:
            return None
        tier = above
    for receiver in receiving_tiers(context.config, tier, context.plugins, context.output):
        with closing(receiver):
            if receiver.group == (group or groups_of(context.config, tier)[0]):
                return receiver.issue_ticket(kind=kind)
    return None


def read_text(path: Path) -> str:
    """A small text file; UserError when it cannot be read."""
    try:
        with path.open(encoding="ascii") as file:
            return file.read(64 * 1024)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"ticket {path}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
