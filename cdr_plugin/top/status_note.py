"""Saying below the inboxes whether this tier takes what is sent to it now, for senders who want to know.

Nothing is said by a tier that is always ready and has no limit. What was said last is remembered, so that a note is
written only when it says something else, or before it runs out.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cdr_plugin.errors import RemoteError
from cdr_plugin.parcel.naming import status_name
from cdr_plugin.parcel.tier_status import BUSY_S, LIMIT_S, TierStatus, write_tier_status

if TYPE_CHECKING:
    from cdr_plugin.contracts import Verdict
    from cdr_plugin.reporter import Reporter
    from cdr_plugin.top.tier import TopTier

_SAID = "status_said"
_FINE_S = 600
"""Steps in which the end of *busy* is told: a note for each question would be a note a minute."""
_LIMIT_STEP_S = 10 * 86400
"""Those of the end of a limit: it is said again every ten days, and runs out when nobody does."""


def post_status(top: TopTier, verdict: Verdict, limit: int | None, reporter: Reporter) -> None:
    """``verdict``: is it convenient to receive? ``limit``: bytes per second. Who cannot be reached is told later."""
    now_s = int(time.time())
    status = _status(verdict, limit, now_s)
    said, known = f"{status.busy} {status.until_s} {status.limit}", top.state.get(_SAID)
    is_plain = not status.busy and not status.limit
    if known == said.encode() or (known is None and is_plain):
        return
    try:
        for url in dict.fromkeys(top.inboxes):
            with top.plugins.transport(url) as inbox:
                if is_plain:
                    inbox.delete(status_name(top.group))
                    continue
                serial = top.state.next_serial("status")
                numbered = TierStatus(status.busy, status.until_s, status.limit, serial)
                data = write_tier_status(numbered, top.identity.signing, group=top.group, issued_s=now_s)
                inbox.put(status_name(top.group), data, overwrite=True)
    except RemoteError as error:
        reporter.note(f"{top.name}: {error}; what it says of itself is as old as before")
        return
    top.state.put({_SAID: said})


def _status(verdict: Verdict, limit: int | None, now_s: int) -> TierStatus:
    if not verdict.convenient:
        until_s = _in_steps(now_s + min(int(verdict.ask_again_s), BUSY_S), _FINE_S)
    else:
        until_s = _in_steps(now_s + LIMIT_S - _LIMIT_STEP_S, _LIMIT_STEP_S) if limit else 0
    return TierStatus(not verdict.convenient, until_s, limit or 0)


def _in_steps(end_s: int, step_s: int) -> int:
    return -(-end_s // step_s) * step_s
