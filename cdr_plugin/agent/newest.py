"""When a client last made a version, and a top tier last checked or forgot, whoever asked for it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.client.state import ClientState
from cdr_plugin.config import TierConfig
from cdr_plugin.config.queues import queues_of
from cdr_plugin.convenience import CHECKED, FORGOTTEN, last_done_s
from cdr_plugin.errors import CdrError
from cdr_plugin.model.times import parse_time


def newest_version_s(tier: TierConfig) -> float | None:
    """Seconds since 1970 when its newest version was begun, of several queues in the one that is behind; None
    when there is none, or it cannot be told."""
    found = [_newest_s(queue.state) for queue in queues_of(tier)]
    return None if None in found else min(time_s for time_s in found if time_s is not None)


def _newest_s(state_folder: Path) -> float | None:
    if not (state_folder / "state.db").exists():
        return None
    try:
        state = ClientState(state_folder)
    except CdrError:
        return None  # the backup says what is wrong with it
    try:
        newest = state.newest_version()
        if newest is None:
            return None
        seconds, nanoseconds = parse_time(newest.time)
    except (CdrError, sqlite3.DatabaseError):
        return None
    finally:
        state.close()
    return seconds + nanoseconds / 1e9


def last_care_s(tier: TierConfig, kind: JobKind) -> float | None:
    """Seconds since 1970 when care of all its groups was last begun that came to its end; None before the first,
    or where it cannot be told."""
    if not (tier.state / "tier" / "state.db").exists():
        return None
    from cdr_plugin.assembly import tier_state

    try:
        state = tier_state(tier)
    except CdrError:
        return None
    try:
        return last_done_s(state, CHECKED if kind is JobKind.CHECK else FORGOTTEN)
    except (CdrError, sqlite3.DatabaseError):
        return None
    finally:
        state.close()
