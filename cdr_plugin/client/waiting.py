"""Waiting until a version has arrived above."""

from __future__ import annotations

import time
from collections.abc import Callable

from cdr_plugin.client.state import ClientState
from cdr_plugin.client.states import VersionState
from cdr_plugin.errors import RemoteError, UserError
from cdr_plugin.reporter import Reporter

REACHED = {"stored": ("stored", "committed", "verified"), "committed": ("committed", "verified")}
"""What can be waited for, and the states of a version in which it has come true."""


def wait_for(
    state: ClientState,
    number: int,
    goal: str,
    *,
    send: Callable[[], str],
    every_s: float,
    timeout_s: float | None,
    reporter: Reporter,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> VersionState | None:
    """Call ``send`` every so often until version ``number`` is what ``goal`` says; its state then, or
    None when the time ran out first (None: there is no limit). UserError when it will never be.

    ``send`` returns what it waits for itself, or nothing; the reporter hears of it when that changes.
    A storage that cannot be reached, and another process that sends just now, are no reason to give up.
    """
    end = None if timeout_s is None else clock() + timeout_s
    said = ""
    while True:
        try:
            reason = send()
        except RemoteError as error:
            reason = f"{error}; waiting"
        if reason and reason != said:
            reporter.note(reason)
        said = reason
        found = _state_of(state, number)
        if found in REACHED[goal]:
            return found
        left = every_s if end is None else end - clock()
        if left <= 0:
            return None
        sleep(min(every_s, left))


def _state_of(state: ClientState, number: int) -> VersionState:
    row = state.version(number)
    if row is None:
        raise UserError(f"version {number} was replaced by a newer one before it travelled; wait for that")
    if row.state is VersionState.REJECTED:
        raise UserError(f"version {number} was rejected above: {row.reason}; it will not be stored")
    return row.state
