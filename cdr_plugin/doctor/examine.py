"""All checks of one machine, in the order in which somebody would mend things."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.assembly import (
    client_tier,
    groups_of,
    intermediate_tier,
    is_reducing,
    receiving_tiers,
    reducing_tiers,
    tier_state,
)
from cdr_plugin.config.queues import queues_of
from cdr_plugin.convenience import SENT, last_done_s

from . import clients, machine, places, tops
from .finding import Check, Finding, broken, guarded, warning

if TYPE_CHECKING:
    from cdr_plugin.agent.systemd import Manager
    from cdr_plugin.config import Config, TierConfig
    from cdr_plugin.plugins import Plugins
    from cdr_plugin.reporter import Reporter


def examine_machine(plugins: Plugins, manager: Manager, name: str, *, is_systemd_here: bool) -> Iterator[Finding]:
    """What concerns all tiers."""
    yield from machine.kernel()
    yield from machine.plugins(plugins)
    yield from machine.clock()
    yield from machine.service(manager, name, is_systemd_here=is_systemd_here)


def examine_tier(config: Config, tier: TierConfig, plugins: Plugins, reporter: Reporter) -> Iterator[Finding]:
    """What concerns one tier. Of one that is not set up only that is said."""
    opens = tier.store is not None or is_reducing(tier, plugins)
    if not _is_set_up(tier, opens):
        where = tier.identity if opens else tier.state
        yield broken(tier.name, "set-up", f"there is nothing in {where}", f"run 'cdr init -T {tier.name}'")
        return

    def check(about: str, what: Check, step: str = f"run 'cdr init -T {tier.name}'") -> Iterator[Finding]:
        return guarded(tier.name, about, step, what)

    if tier.source or opens:
        groups = groups_of(config, tier) if opens else []
        yield from check(f"identity {tier.identity}", lambda: places.identity(tier, groups))
    yield from check(f"state {tier.state}", lambda: places.state(tier))
    yield from check("jobs of the agent", lambda: places.jobs(tier))
    if tier.source:
        yield from check("sources", lambda: places.sources(tier))
        yield from check("client", lambda: _clients(tier, plugins))
    yield from check("storage above", lambda: _above(tier, plugins))
    if tier.receive:
        yield from _inboxes(tier, plugins)
    if tier.receive and tier.forward and not opens:
        yield from check("queue", lambda: _mover(tier, plugins))
    if opens and tier.forward:
        yield from check("way up", lambda: _uplinks(config, tier, plugins, reporter))
    if opens:
        yield from check("groups", lambda: _groups(config, tier, plugins, reporter))


def _is_set_up(tier: TierConfig, opens: bool) -> bool:
    if opens:
        return any((tier.identity / name).exists() for name in ("identity.key", ".recovering"))
    if tier.source:
        return any((queue.state / "state.db").exists() for queue in queues_of(tier))
    return tier.state.is_dir()


def _clients(tier: TierConfig, plugins: Plugins) -> Iterator[Finding]:
    for queue in queues_of(tier):
        client = client_tier(queue, plugins)
        try:
            yield from clients.client(client)
        finally:
            client.state.close()


def _above(tier: TierConfig, plugins: Plugins) -> Iterator[Finding]:
    """Being out of reach now and then is what CDR is made for; never having been reached is not."""
    if tier.forward is None:
        return
    may_be_away = _last_sent_s(tier) is not None or "reachable" in tier.forward.when or len(tier.forward.to) > 1
    for url in tier.forward.to:
        yield from places.storage(tier, url, plugins, may_be_away=may_be_away)


def _last_sent_s(tier: TierConfig) -> float | None:
    if not (tier.state / "tier" / "state.db").exists():
        return None
    state = tier_state(tier)
    try:
        return last_done_s(state, SENT)
    finally:
        state.close()


def _inboxes(tier: TierConfig, plugins: Plugins) -> Iterator[Finding]:
    assert tier.receive is not None
    of_groups = [url for group in tier.groups.values() for url in group.inbox]
    for url in dict.fromkeys((*tier.receive.inbox, *of_groups)):
        found = list(places.storage(tier, url, plugins, may_be_away="reachable" in tier.receive.when))
        yield from found
        if not found:
            step = "let this user read there"
            yield from guarded(tier.name, f"inbox {url}", step, partial(places.inbox, tier, url, plugins))


def _mover(tier: TierConfig, plugins: Plugins) -> Iterator[Finding]:
    found = intermediate_tier(tier, plugins)
    if not found.spool.is_dir():  # asking for the queue would make it
        yield broken(tier.name, "spool", f"{found.spool} is not there", f"run 'cdr init -T {tier.name}'")
        return
    yield from _queue(tier, *found.queue())


def _uplinks(config: Config, tier: TierConfig, plugins: Plugins, reporter: Reporter) -> Iterator[Finding]:
    """The ways up of a tier that reduces, one for each group and storage."""
    segments = size = 0
    for group in reducing_tiers(config, tier, plugins, reporter):
        with closing(group):
            for uplink in group.uplinks:
                about = f"enrolment of group {group.group} to {uplink.to}"
                if not (uplink.state_folder / "state.db").exists():  # asking for it would make it
                    yield broken(tier.name, about, "there is no state of it", f"run 'cdr init -T {tier.name}'")
                    continue
                if not uplink.is_enrolled:
                    step = f"'cdr ticket --for-tier' above prints a ticket; then 'cdr enroll TICKET -T {tier.name}'"
                    yield broken(tier.name, about, "no ticket was adopted", step)
                count, waiting = uplink.state.queue()
                segments, size = segments + count, size + waiting
    yield from _queue(tier, segments, size)


def _queue(tier: TierConfig, segments: int, size: int) -> Iterator[Finding]:
    sent_s = _last_sent_s(tier)
    if segments and (sent_s is None or time.time() - sent_s > clients.STUCK_S):
        since = "since the tier was set up" if sent_s is None else f"for {(time.time() - sent_s) / 86400:.0f} days"
        cause = f"{segments} segments, {size} bytes wait, and nothing was sent {since}"
        step = f"'cdr status -T {tier.name}' says for what; 'cdr send --now' overrides it"
        yield warning(tier.name, "queue", cause, step)


def _groups(config: Config, tier: TierConfig, plugins: Plugins, reporter: Reporter) -> Iterator[Finding]:
    """What a tier that opens segments is for each of its groups: the repository, or the retained versions."""
    for top in receiving_tiers(config, tier, plugins, reporter):
        try:
            step = "correct 'store' in the configuration, or mount what it names"
            if not top.is_end:
                if not (Path(top.repository) / "config").exists():
                    continue  # made when the tier is enrolled, which is found above
                step = "move the folder away: an empty one takes its place, and clients send again what it lacks"
            yield from guarded(tier.name, f"repository {top.repository}", step, partial(tops.repository, top))
            step = f"run 'cdr init -T {tier.name}'"
            yield from guarded(tier.name, f"group {top.group}", step, partial(tops.clients, top))
        finally:
            top.close()
