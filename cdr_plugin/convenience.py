"""Is it convenient now? The conditions of one ``when`` table, asked together.

All must agree. The conditions are plugins; each is asked in a thread of its own, so that the slowest, and
not the sum, is waited for, and so that one that hangs (a dead network mount, say) cannot hold its caller::

    policy = sending(tier, plugins)
    verdict = policy.ask(last_done_s(state, SENT))
    ...                                       # the work, with policy.while_working() between its steps
    note_done(state, SENT, time.time())
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdr_plugin.contracts import Occasion, Verdict
from cdr_plugin.errors import NotFoundError, RemoteError
from cdr_plugin.pause import paused_since_s

if TYPE_CHECKING:
    from cdr_plugin.config import TierConfig
    from cdr_plugin.plugins import Plugins
    from cdr_plugin.tier_state import TierState

SENT, RECEIVED, CHECKED, FORGOTTEN, REDUCED = "sent", "received", "checked", "forgotten", "reduced"
"""What a tier does when it is convenient, as its state names it."""

ANSWER_S = 45.0
"""Seconds after which a condition that has not answered counts as not convenient."""
RECHECK_S = 10.0
"""Seconds between two questions while the work goes on: a segment takes 10 ms on a disk, and asking all
conditions up to 250 ms."""
_QUIET_S = 3600.0
"""When to ask again where nothing says that it will stop to be convenient."""
PAUSED = Verdict(False, "waiting for 'cdr resume' (paused)", 60.0)


@dataclass(frozen=True, slots=True)
class Convenience:
    """One ``when`` table, checked; ``storages``: the URLs that the work needs. May be used by several threads."""

    plugins: Plugins
    when: Mapping[str, Any]
    storages: Sequence[str] = ()
    state: Path | None = None
    """The tier's folder, where ``cdr pause`` leaves its flag; None: not to be held up by one."""
    clock: Callable[[], float] = field(default=time.time)
    answer_s: float = ANSWER_S
    busy_above: Callable[[], Verdict | None] = lambda: None
    """What the tier above says of itself, where it is busy."""

    def ask(self, last_done_s: float | None = None, *, is_under_way: bool = False) -> Verdict:
        """One verdict; its reason names every condition that is not met. Never raises for a condition
        that fails or hangs: that one is not convenient, and the reason says why."""
        if self.state is not None and paused_since_s(self.state) is not None:
            return PAUSED
        occasion = Occasion(
            self.clock(), last_done_s, self.storages, self._answers, self.busy_above, is_under_way=is_under_way
        )
        return combined(_asked_together([self._question(name, occasion) for name in self.when], self.answer_s))

    def while_working(self, monotonic: Callable[[], float] = time.monotonic) -> Callable[[], Verdict]:
        """What to call between two steps of the work that ``ask`` allowed: may it go on? Asks the
        conditions again every ten seconds, answers from memory between."""
        asked_s, verdict = monotonic(), Verdict(True)

        def may_go_on() -> Verdict:
            nonlocal asked_s, verdict
            if (self.when or self.state) and monotonic() - asked_s >= RECHECK_S:
                verdict = self.ask(is_under_way=True)
                asked_s = monotonic()
            return verdict

        return may_go_on

    def _question(self, name: str, occasion: Occasion) -> _Question:
        return _Question(name, lambda: self.plugins.condition(name).ask(self.when[name], occasion))

    def _answers(self, url: str) -> bool:
        try:
            storage = self.plugins.transport(url)
        except RemoteError:  # a folder that is not there (mounted) counts, too
            return False
        with storage:
            try:
                storage.stat("cdr-is-there-anybody")
            except NotFoundError:  # somebody looked for it
                return True
            except RemoteError:
                return False
        return True


def sending(tier: TierConfig, plugins: Plugins) -> Convenience:
    """``forward.when``; always convenient for a tier that sends nothing."""
    if tier.forward is None:
        return Convenience(plugins, {})
    from cdr_plugin.above import busy_above

    return Convenience(
        plugins, tier.forward.when, tier.forward.to, tier.state, busy_above=lambda: busy_above(tier, plugins)
    )


def receiving(tier: TierConfig, plugins: Plugins) -> Convenience:
    """``receive.when``; always convenient for a tier that receives nothing."""
    if tier.receive is None:
        return Convenience(plugins, {})
    return Convenience(plugins, tier.receive.when, tier.receive.inbox, tier.state)


def caring(tier: TierConfig, plugins: Plugins) -> Convenience:
    """``store.when``, for scheduled checks and forgets, and for reducing what has landed; always convenient for a tier
    that stores nothing."""
    if tier.store is None:
        return Convenience(plugins, {})
    return Convenience(plugins, tier.store.when, (), tier.state)


def receiving_by_group(tier: TierConfig, plugins: Plugins) -> dict[str, Convenience]:
    """``receive.when`` under the name ``""``, and those of the groups that have a ``when`` of their own."""
    found = {"": receiving(tier, plugins)}
    for name, group in tier.groups.items():
        if group.when is not None and tier.receive is not None:
            found[name] = Convenience(plugins, group.when, group.inbox or tier.receive.inbox, tier.state)
    return found


def received(group: str) -> str:
    """What a tier does for one group, as its state names it; for ``""`` as a whole."""
    return f"{RECEIVED} of {group}" if group else RECEIVED


class _Question:
    """One condition, asked in a thread that nobody needs to wait for."""

    def __init__(self, name: str, ask: Callable[[], Verdict]) -> None:
        self._name = name
        self._ask = ask
        self._verdict: Verdict | None = None
        self._thread = threading.Thread(target=self._run, name=f"condition {name}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._verdict = self._ask()
        except Exception as error:  # a broken plugin is reported, and ends nothing
            self._verdict = Verdict(False, f"waiting for the condition {self._name!r}, which failed: {error}")

    def verdict(self, until_s: float) -> Verdict:
        self._thread.join(max(until_s - time.monotonic(), 0))
        return self._verdict or Verdict(False, f"waiting for the condition {self._name!r}, which does not answer")


def _asked_together(questions: Sequence[_Question], answer_s: float) -> list[Verdict]:
    until_s = time.monotonic() + answer_s
    return [question.verdict(until_s) for question in questions]


def combined(verdicts: Iterable[Verdict]) -> Verdict:
    """All must agree. Not before the last of those that do not agree may is asking again of use; while all
    agree, the first that may end to do so counts."""
    found = list(verdicts)
    against = [verdict for verdict in found if not verdict.convenient]
    if against:
        reason = "; ".join(verdict.reason for verdict in against)
        return Verdict(False, reason, max(verdict.ask_again_s for verdict in against))
    return Verdict(True, ask_again_s=min((verdict.ask_again_s for verdict in found), default=_QUIET_S))


def last_done_s(state: TierState, what: str) -> float | None:
    """When the tier last did ``what``, in seconds since 1970 by its clock of then; None if never."""
    found = state.get(f"{what}_time")
    return float(found) if found else None


def note_done(state: TierState, what: str, now_s: float) -> None:
    """Durable when this returns."""
    state.put({f"{what}_time": str(now_s)})
