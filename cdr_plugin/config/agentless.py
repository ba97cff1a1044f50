"""Clients that cannot run anything: each ``receive.agentless`` table as a tier that its receiving tier runs for it.

Such a tier is a client like any other, with keys and state of its own below those of the receiving tier, so that
nothing above can tell it from one that runs by itself. Its source is the folder, its storage the inbox.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .places import same_place
from .schema import AgentlessConfig, ForwardConfig, ReduceConfig, SourceConfig, TierConfig

FOLDER = "_agentless"
"""In the folders of the tier's state and identity; no group or client has such a name."""


def agentless_clients(tier: TierConfig) -> Iterator[TierConfig]:
    """A client for each agentless folder of ``tier``, in the order of the file."""
    for one in tier.receive.agentless if tier.receive else ():
        yield TierConfig(
            name=f"{tier.name} for {one.client}",
            client=one.client,
            group=one.group,
            state=tier.state / FOLDER / one.group / one.client,
            identity=tier.identity / FOLDER / one.group / one.client,
            source=SourceConfig(paths=(Path(same_place(one.folder)),)),
            # The top tier decodes each delta at once: only what travels further is worth one.
            reduce=ReduceConfig(methods=("zstd",) if tier.store else ("delta", "zstd")),
            forward=ForwardConfig(to=_inboxes(tier, one), ticket=(one.ticket,) if one.ticket else ()),
        )


def _inboxes(tier: TierConfig, one: AgentlessConfig) -> tuple[str, ...]:
    assert tier.receive is not None
    group = tier.groups.get(one.group)
    opens = tier.store or tier.reduce.methods  # what opens nothing knows no groups
    return group.inbox if opens and group and group.inbox else tier.receive.inbox
