"""``cdr forget``: remove versions, by policy or by ID."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from cdr_plugin.care import PruneReport
from cdr_plugin.cli.commands.prune import add_prune_arguments, describe_prune, prune_options, sum_reports
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.policy_arguments import add_policy_arguments
from cdr_plugin.cli.repositories import add_repository_arguments
from cdr_plugin.cli.scheduled import add_schedule_arguments, scheduled_forget
from cdr_plugin.cli.selecting import (
    Selection,
    add_id_arguments,
    add_long_filter_arguments,
    has_filter,
    open_all,
    select,
)
from cdr_plugin.cli.version_tables import version_json, version_table
from cdr_plugin.cli.work import every
from cdr_plugin.contracts import Repository, StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.retention.from_options import policy_from
from cdr_plugin.retention.grouping import GroupKey, parse_group_by
from cdr_plugin.retention.plan import GroupPlan, check_removal, plan_by_policy
from cdr_plugin.retention.policy import Outcome, Policy

HELP = """Remove versions: those that are named, or, of each group of versions, those that no --keep option
keeps. What only they reached stays until 'cdr prune', or is freed at once with --prune. Rules and options are
restic's. Two kinds of versions are CDR's own:

- Pins, which keep what clients have sent for versions to come, are never removed by a policy.
- The newest version of each client is always kept, since its next one builds on it.

Both can be removed by ID with --force. When a policy would keep nothing of a group, or an ID is unknown,
nothing is removed at all.

With --scheduled the policy is that of the configuration (store.forget), by client: it is applied to the times of
the versions and to those of their receipt, and what either keeps stays; so do versions that a client may build on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_id_arguments(parser, "remove these, whatever the policy")
    add_policy_arguments(parser)
    group_help = "apply the policy to each group of such (default: host,paths; '' for one group)"
    parser.add_argument("--group-by", "-g", default="host,paths", metavar="HOST,PATHS,TAGS", help=group_help)
    add_long_filter_arguments(parser)
    parser.add_argument("--force", action="store_true", help="with IDs: pins and newest versions of clients, too")
    unsafe_help = "without a policy: remove everything that the filters leave"
    parser.add_argument("--unsafe-allow-remove-all", action="store_true", help=unsafe_help)
    parser.add_argument("--compact", action="store_true", help="shorter tables, without reasons and paths")
    parser.add_argument("--dry-run", "-n", action="store_true", help="remove nothing, only say what would go")
    add_schedule_arguments(parser, "store.forget")
    parser.add_argument("--prune", action="store_true", help="then free the space, under the same lock")
    add_prune_arguments(parser)
    add_repository_arguments(parser, writes=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes, and stays, in one repository."""

    repository: Repository
    groups: Sequence[GroupPlan]

    @property
    def ids(self) -> list[str]:
        return [version.id for group in self.groups for version in group.outcome.remove]


def run(context: Context) -> int:
    options = context.options
    if options.scheduled:
        if options.ids or policy_from(options) or options.dry_run:
            raise UserError("--scheduled takes its policy from the configuration; give no IDs, rules or --dry-run")
        return scheduled_forget(context)
    policy = _policy(options)
    reports: list[PruneReport] = []
    with ExitStack() as stack:
        opened, code = open_all(context, stack, "forget")
        selections = select(opened, options)
        # Everything is planned before anything is removed: a refusal refuses all of it.
        plans = [_plan(selection, policy, options) for selection in selections]
        _show(context, plans)
        jobs = [(plan.repository.location, partial(_carry_out, context, plan, reports)) for plan in plans]
        code = (every(context, "forget", jobs) if jobs else 0) or code
    if options.prune:
        context.output.summary({**asdict(sum_reports(reports)), "dry_run": options.dry_run})
    return code


def _policy(options: argparse.Namespace) -> Policy:
    policy = policy_from(options)
    if options.ids:
        if policy:
            raise UserError("IDs and a policy are given: IDs are removed whatever the policy; give one of the two")
    elif not policy and not options.unsafe_allow_remove_all:
        raise UserError("no policy is given, so no version is removed; say what to keep with --keep-last N or the like")
    elif not policy and not has_filter(options):
        raise UserError("--unsafe-allow-remove-all needs a filter; say whose versions with --client, --path or --tag")
    return policy


def _plan(selection: Selection, policy: Policy, options: argparse.Namespace) -> Plan:
    everything = selection.opened.versions
    if not options.ids:
        by = parse_group_by(options.group_by)
        groups = plan_by_policy(everything, selection.versions, policy, by, (int(time.time()), 0))
        return Plan(selection.opened.repository, groups)
    if not options.force:
        check_removal(everything, selection.versions)
    outcome = Outcome(remove=list(selection.versions))
    return Plan(selection.opened.repository, [GroupPlan(GroupKey("", (), ()), outcome)] if outcome.remove else [])


def _carry_out(context: Context, plan: Plan, reports: list[PruneReport]) -> int:
    """Remove, and prune, as far as there is something to remove."""
    options = context.options
    if not plan.ids:
        return 0
    prune = prune_options(options) if options.prune else None
    care = plan.repository.care()
    if not options.dry_run:
        report = care.forget(plan.ids, prune)
        context.output.line(f"{len(plan.ids)} versions were removed from {plan.repository.location}")
    else:
        report = care.prune(prune, without=plan.ids) if prune else None
        context.output.line(f"{len(plan.ids)} versions would be removed from {plan.repository.location}")
    if report is not None:
        reports.append(report)
        context.output.line(describe_prune(report, dry_run=options.dry_run))
    return 0


def _show(context: Context, plans: Sequence[Plan]) -> None:
    groups = [group for plan in plans for group in plan.groups]
    context.output.document([group_json(group) for group in groups])
    for group in groups:
        if str(group.key):
            context.output.line(f"snapshots for {group.key}:")
        keep = [version for version, _ in group.outcome.keep]
        reasons = {version.id: why for version, why in group.outcome.keep}
        _table(context, "keep", keep, reasons)
        _table(context, "remove", group.outcome.remove)


def _table(
    context: Context, what: str, versions: Sequence[StoredVersion], reasons: dict[str, tuple[str, ...]] | None = None
) -> None:
    """Oldest first, as all tables of versions."""
    if versions:
        context.output.line(f"{what} {len(versions)} snapshots:")
        context.output.line(version_table(versions[::-1], compact=context.options.compact, reasons=reasons))
        context.output.line()


def group_json(group: GroupPlan) -> dict[str, Any]:
    """restic's object for one group; null for lists that are empty."""
    key = group.key.as_json()
    keep = group.outcome.keep
    return {
        "tags": key["tags"],
        "host": key["hostname"],
        "paths": key["paths"],
        "keep": [version_json(version) for version, _ in keep] or None,
        "remove": [version_json(version) for version in group.outcome.remove] or None,
        "reasons": [{"snapshot": version_json(version), "matches": list(why)} for version, why in keep] or None,
    }
