"""What forgetting would do to a repository: what stays, why, and what goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.retention.calendars import Instant
from cdr_plugin.retention.clients import newest_of_clients, spare
from cdr_plugin.retention.grouping import GroupBy, GroupKey
from cdr_plugin.retention.policy import Outcome, Policy, apply_policy
from cdr_plugin.top.pins import is_pin


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """One group's part of a plan."""

    key: GroupKey
    outcome: Outcome


def plan_by_policy(
    everything: Sequence[StoredVersion], selected: Sequence[StoredVersion], policy: Policy, by: GroupBy, now: Instant
) -> list[GroupPlan]:
    """What ``policy`` says of ``selected``, group by group, with each client's newest version spared;
    ``everything`` is what the repository holds. Pins are no policy's business.

    UserError when rules keep nothing of a group: most likely they are not what was meant. An empty
    policy has no rules; whether it may be meant is for the caller to say.
    """
    newest = newest_of_clients(everything)
    plans = []
    for key, group in by.groups(version for version in selected if not is_pin(version.snapshot)):
        outcome = apply_policy(group, policy, now)
        if policy and not outcome.keep:
            named = f" of {key}" if str(key) else ""
            raise UserError(f"the policy would keep none of the {len(group)} versions{named}; nothing was removed")
        plans.append(GroupPlan(key, spare(outcome, newest)))
    return plans


def check_removal(everything: Sequence[StoredVersion], named: Sequence[StoredVersion]) -> None:
    """UserError when one of ``named`` is a pin, or the newest version of a client."""
    newest = newest_of_clients(everything)
    for version in named:
        if is_pin(version.snapshot):
            reason = "is a pin: it holds what a client has sent for versions to come"
        elif version.id in newest:
            reason = "is the newest version of a client: its next one builds on it"
        else:
            continue
        raise UserError(f"version {version.id[:8]} {reason}; nothing was removed, '--force' removes it all the same")
