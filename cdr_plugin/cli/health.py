"""``cdr status --check``: what a monitor should wake somebody for, judged from what ``cdr status`` shows.

Silent means: for longer than three times the interval that the configuration gives, or than a limit where it
gives none. A machine that is away for a weekend is no reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.formatting import format_age
from cdr_plugin.model.quantities import parse_duration
from cdr_plugin.model.times import parse_time

if TYPE_CHECKING:
    from cdr_plugin.agent.scheduler import Record
    from cdr_plugin.config import Config, TierConfig

DEFAULT_LIMIT_S = 7 * 86400
MISSED = 3
"""So many intervals may go by in silence."""
FAILURES = 3
"""So many in a row are more than bad luck."""


@dataclass(frozen=True, slots=True)
class Problem:
    """``client`` is empty where it is the tier's own."""

    tier: str
    client: str
    text: str

    def __str__(self) -> str:
        whose = f"client {self.client} of {self.tier}" if self.client and self.client != self.tier else self.tier
        return f"{whose}: {self.text}"


@dataclass(frozen=True, slots=True)
class Health:
    """The judge. ``limit_s``: for whom no interval is given; ``now_s``: seconds since 1970."""

    config: Config
    limit_s: float
    now_s: float

    def problems(
        self, tier: TierConfig, status: Mapping[str, Any], jobs: Mapping[str, Record]
    ) -> Iterator[Problem]:
        """Of one tier: ``status`` as ``tier_status`` gives it, ``jobs`` as the agent remembers them, by kind."""
        for text in self._of_tier(tier, status):
            yield Problem(tier.name, "", text)
        for kind, record in jobs.items():
            if record.failures >= FAILURES:
                yield Problem(tier.name, "", f"{kind} failed {record.failures} times in a row: {record.error}")
        for client in status["clients"]:
            if client.get("register") != "revoked":
                name = client["name"]
                yield from (Problem(tier.name, name, text) for text in self._of_client(tier, client))

    # --- tiers ---

    def _of_tier(self, tier: TierConfig, status: Mapping[str, Any]) -> Iterator[str]:
        if status["error"]:
            yield status["error"]
        if tier.forward is not None and status["queue"]["segments"]:
            limit_s = self._limit_s(tier.forward.when)
            age_s = self._age_s(status["last_sent"] or status["last_received"] or _oldest(status))
            if age_s is not None and age_s > limit_s:
                segments = status["queue"]["segments"]
                yield f"{segments} segments wait, nothing was sent for {_age(age_s)}; see 'cdr queue'"
        if tier.receive is not None:
            age_s = self._age_s(status["last_received"])
            if age_s is not None and age_s > self._limit_s(tier.receive.when):
                yield f"nothing was received for {_age(age_s)}: 'cdr receive' has not run"
        if tier.store is not None:
            for care in status["care"]:
                yield from self._of_care(tier, care, status)

    def _of_care(self, tier: TierConfig, care: Mapping[str, Any], status: Mapping[str, Any]) -> Iterator[str]:
        assert tier.store is not None
        group, check = care["group"], care["check"]
        if check is not None and check["errors"]:
            count = check["errors"]
            yield f"group {group}: the last check found {count} errors, the first: {check['problem']}; run 'cdr check'"
        since = _first_version(status, group)
        for what, plan in (("check", tier.store.check), ("forget", tier.store.forget)):
            if plan is not None:
                last = care[what]["time"] if care[what] else since
                age_s = self._age_s(last)
                if age_s is not None and age_s > MISSED * plan.every_s:
                    never = "" if care[what] else "has never been done, and "
                    yield f"group {group}: the {what} {never}is overdue: {_age(age_s)}; see 'cdr run'"

    # --- clients ---

    def _of_client(self, tier: TierConfig, client: Mapping[str, Any]) -> Iterator[str]:
        limit_s = self._limit_of_client(tier, client["name"])
        versions = client["versions"]
        if not versions:
            age_s = self._age_s(client.get("enrolled"))
            if age_s is None and tier.source is not None:
                yield "no version yet; run 'cdr backup'"
            elif age_s is not None and age_s > limit_s:
                yield f"no version since it was enrolled, {_age(age_s)} ago"
            return
        newest_s = self._age_s(client["last_version_time"])
        if newest_s is not None and newest_s > limit_s:
            yield f"no new version for {_age(newest_s)}"
            return
        settled = [v for v in versions if v["state"] in ("committed", "verified")]
        age_s = self._age_s((settled[-1] if settled else versions[0])["time"])
        if age_s is not None and age_s > limit_s:
            state = versions[-1]["state"]
            waits = f"version {versions[-1]['number']} is {state}"
            yield f"nothing was committed for {_age(age_s)}: {waits}"

    def _limit_of_client(self, tier: TierConfig, name: str) -> float:
        """By the interval of its source, where a file at hand says it."""
        client = tier if tier.source is not None else self.config.tiers.get(name)
        return self._limit_s(client.source.when if client is not None and client.source is not None else {})

    def _limit_s(self, when: Mapping[str, Any]) -> float:
        return MISSED * parse_duration(when["every"]) if "every" in when else self.limit_s

    def _age_s(self, moment: str | None) -> float | None:
        return None if moment is None else max(self.now_s - parse_time(moment)[0], 0.0)


def _age(age_s: float) -> str:
    return format_age(age_s) if age_s >= 60 else f"{age_s:.0f} seconds"


def _oldest(status: Mapping[str, Any]) -> str | None:
    return _first(version["time"] for client in status["clients"] for version in client["versions"])


def _first_version(status: Mapping[str, Any], group: str) -> str | None:
    """Since when there has been something to care for."""
    clients = (client for client in status["clients"] if client["group"] == group)
    return _first(client.get("first_version_time") for client in clients)


def _first(moments: Iterable[str | None]) -> str | None:
    return min(filter(None, moments), key=parse_time, default=None)
