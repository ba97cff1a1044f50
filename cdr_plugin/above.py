"""What the tiers above a tier of the configuration say of themselves: whether they are busy, and how fast they take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

from cdr_plugin.contracts import Verdict
from cdr_plugin.errors import CdrError

if TYPE_CHECKING:
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.config import TierConfig
    from cdr_plugin.parcel.tier_status import TierStatus
    from cdr_plugin.plugins import Plugins


def busy_above(tier: TierConfig, plugins: Plugins) -> Verdict | None:
    """When to ask again; None where nobody above says that it is busy. A tier that opens nothing knows no key, and
    believes nobody."""
    until_s = max((status.until_s for status in _statuses(tier, plugins) if status.busy), default=None)
    if until_s is None:
        return None
    return Verdict(False, "waiting for the tier above, which says that it is busy", max(until_s - time.time(), 1.0))


def within_what_is_offered(tier: TierConfig, plugins: Plugins) -> TierConfig:
    """The tier, sending no faster than those above say they take, where it wants to know."""
    if tier.forward is None or "above" not in tier.forward.when:
        return tier
    limits = [status.limit for status in _statuses(tier, plugins) if status.limit]
    limits += [tier.forward.limit] if tier.forward.limit is not None else []
    return replace(tier, forward=replace(tier.forward, limit=min(limits))) if limits else tier


def _statuses(tier: TierConfig, plugins: Plugins) -> Iterator[TierStatus]:
    from cdr_plugin.client.above import status_of_above

    for client in _senders(tier, plugins):
        with closing(client.state):
            status = status_of_above(client)
        if status is not None:
            yield status


def _senders(tier: TierConfig, plugins: Plugins) -> Iterator[ClientTier]:
    """The client that a tier is, or its ways up; none where it has no keys or is not enrolled yet."""
    from cdr_plugin.assembly import client_tier, is_reducing, uplinks_of

    try:
        if tier.source is not None:
            found: list[ClientTier] = [client_tier(tier, plugins)]
        else:
            found = list(uplinks_of(tier, plugins)) if is_reducing(tier, plugins) else []
        yield from (client for client in found if client.state.get("ticket") is not None)
    except CdrError:
        return
