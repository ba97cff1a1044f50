"""Transfer queues of a tier: one, or with ``forward.mode = "all"`` one for each storage, independent of the others.

Each queue of a client that replicates is shown as a tier of its own, with its own state (a folder in that
of the tier), spool and ticket, so that whatever works with a tier works with each, and one that fails
does not stop the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256

from .places import same_place
from .schema import ForwardConfig, TierConfig


def queues_of(tier: TierConfig) -> Iterator[TierConfig]:
    """The tier itself, or a tier for each of its storages; loading has seen to it that their tickets match them. A tier
    that receives keeps its queues itself."""
    forward = tier.forward
    if forward is None or tier.receive is not None or forward.mode != "all" or len(forward.to) == 1:
        yield tier
        return
    for at, url in enumerate(forward.to):
        one = replace(forward, to=(url,), mode="first-reachable", ticket=forward.ticket[at : at + 1])
        name = f"{tier.name} to {url}"
        yield replace(tier, name=name, client=tier.name, state=tier.state / f"to-{_slug(url)}", forward=one)


def ways_up(forward: ForwardConfig) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Those of each group of a tier that reduces, with their storages: one, or with ``forward.mode = "all"`` one for
    each storage. By the names of their folders in that of the group."""
    if forward.mode != "all" or len(forward.to) == 1:
        yield "up", forward.to
        return
    for url in forward.to:
        yield f"up-{_slug(url)}", (url,)


def _slug(url: str) -> str:
    return sha256(same_place(url).encode()).hexdigest()[:8]
