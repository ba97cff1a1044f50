"""``store.reduce = "after"`` as ``cdr receive`` carries it out: land always, reduce when ``store.when`` agrees."""

from __future__ import annotations

import time
from contextlib import closing
from typing import TYPE_CHECKING

from cdr_plugin.assembly import tier_state
from cdr_plugin.contracts import Verdict
from cdr_plugin.convenience import REDUCED, caring, last_done_s, note_done
from cdr_plugin.top.landing import land

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.config import TierConfig
    from cdr_plugin.top.result import ReceiveResult
    from cdr_plugin.top.tier import TopTier


def may_reduce(context: Context, config: TierConfig) -> Verdict:
    """Is it convenient to reduce, for all groups of a tier? Inline it always is."""
    if config.store is None or config.store.reduce == "inline" or context.options.now:
        return Verdict(True)
    with closing(tier_state(config)) as state:
        verdict = caring(config, context.plugins).ask(last_done_s(state, REDUCED))
        if verdict.convenient:
            note_done(state, REDUCED, time.time())
    return verdict


def land_first(context: Context, config: TierConfig, top: TopTier, stored: ReceiveResult) -> int:
    """Land what the inboxes of a group hold, where it is not reduced inline; the exit code."""
    if config.store is None or config.store.reduce == "inline":
        return 0
    landed = land(top, context.output)
    stored.segments_landed += landed.segments
    stored.bytes_landed += landed.bytes
    return 1 if landed.inboxes_failed else 0
