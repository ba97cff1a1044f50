"""``cdr status``: what is where, and what waits for what."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_age, format_bytes, format_table
from cdr_plugin.cli.health import DEFAULT_LIMIT_S, Health
from cdr_plugin.cli.tier_status import age_of, tier_status
from cdr_plugin.errors import CdrError
from cdr_plugin.model.quantities import parse_duration

if TYPE_CHECKING:
    from cdr_plugin.agent.scheduler import Record
    from cdr_plugin.config import TierConfig

HELP = """Show per tier: its role, what waits in its queue and inbox and for which condition, and where the
versions of each client are.

With --check, for monitoring: name only what is wrong (clients and tiers that have been silent for longer than three
times their interval, queues that do not move, damage, checks that are overdue, jobs of the agent that keep failing)
and end with 1, or with 0 when all is well."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="only say what is wrong; exit code 1 when anything is")
    limit_help = "with --check: how long one without an interval in the configuration may be silent (default: 7d)"
    parser.add_argument("--max-age", type=_duration, default=DEFAULT_LIMIT_S, metavar="DURATION", help=limit_help)


def run(context: Context) -> int:
    chosen = context.queues
    tiers = [tier_status(context, tier) for tier in chosen]
    if context.options.check:
        return _check(context, list(zip(chosen, tiers, strict=True)))
    context.output.summary({"tiers": tiers})
    for tier in tiers:
        _show(context, tier)
    return 0


def _duration(text: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _check(context: Context, looked_at: Sequence[tuple[TierConfig, dict[str, Any]]]) -> int:
    health = Health(context.config, context.options.max_age, time.time())
    problems = [
        problem for tier, status in looked_at for problem in health.problems(tier, status, _jobs_of(context, tier))
    ]
    for problem in problems:
        context.output.line(str(problem))
    if not problems:
        context.output.line(f"all is well with {len(looked_at)} tiers")
    told = [{"tier": one.tier, "client": one.client or None, "problem": one.text} for one in problems]
    context.output.summary({"ok": not problems, "problems": told, "tiers": [status for _, status in looked_at]})
    return 1 if problems else 0


def _jobs_of(context: Context, tier: TierConfig) -> Mapping[str, Record]:
    """What the agent, if there is one, remembers of the tier's jobs. A queue of several has no agent of its own."""
    if tier.name not in context.config.tiers:
        return {}
    from cdr_plugin.agent.ledger import read_ledger

    try:
        return {kind.value: record for kind, record in read_ledger(tier.state).items()}
    except (CdrError, OSError):
        return {}


def _show(context: Context, tier: dict[str, Any]) -> None:
    queue = tier["queue"]
    context.output.line(
        f"{tier['name']} ({tier['role']}): queue {queue['segments']} segments, {format_bytes(queue['bytes'])}; "
        f"inbox {_inbox(tier)}{_waits(tier)}{_did(tier)}"
    )
    for care in tier["care"]:
        _show_care(context, care)
    rows = [row for client in tier["clients"] for row in _rows(client)]
    if rows:
        headers = ("  client", "group", "version", "state", "made", "last contact")
        context.output.line(format_table(headers, rows))
    for client in tier["clients"]:
        for text in _usage(client):
            context.output.line(f"  {client['name']}: {text}")
        if client.get("resting_bytes"):
            context.output.line(
                f"  {client['name']}: {client['resting_segments']} segments, {format_bytes(client['resting_bytes'])}, "
                "can only be sent again from the source as it is now"
            )


def _usage(client: dict[str, Any]) -> Iterator[str]:
    if client.get("quota") is not None:
        yield f"{format_bytes(client['delivered_bytes'])} of its quota of {format_bytes(client['quota'])}"
    if client.get("warning"):
        yield client["warning"]


def _inbox(tier: dict[str, Any]) -> str:
    limit, unknown = tier["inbox_limit"], tier["inbox_unknown_bytes"]
    of_limit = f" of {format_bytes(limit)}" if limit is not None else ""
    of_unknown = f", {format_bytes(unknown)} of unknown senders" if unknown else ""
    landed = f", landed {format_bytes(tier['landed_bytes'])}" if tier["landed_bytes"] else ""
    return f"{format_bytes(tier['inbox_bytes'])}{of_limit}{of_unknown}{landed}"


def _show_care(context: Context, care: dict[str, Any]) -> None:
    check, forget = care["check"], care["forget"]
    told = []
    if check:
        found = f"{check['errors']} ERRORS, the first: {check['problem']}" if check["errors"] else "no errors"
        part = f", part {check['part']} of {check['parts']} read" if check["parts"] else ""
        since = f", all read since {check['all_read_since']}" if check["all_read_since"] else ""
        told.append(f"checked {_ago(age_of(check['time']))}: {found}{part}{since}")
    if forget:
        owed = ", the prune is still to be done" if forget["owes_prune"] else ""
        told.append(f"forgot {_ago(age_of(forget['time']))}: {forget['removed']} removed, {forget['kept']} kept{owed}")
    if told:
        context.output.line(f"  group {care['group']}: {'; '.join(told)}")


def _waits(tier: dict[str, Any]) -> str:
    again = f"; asked again {tier['ask_again']}" if tier["ask_again"] else ""
    return f"; waits for {tier['waiting_for'].removeprefix('waiting for ')}{again}" if tier["waiting_for"] else ""


def _did(tier: dict[str, Any]) -> str:
    told = (("last sent", tier["last_sent"]), ("last received", tier["last_received"]))
    said = "".join(f"; {what} {_ago(age_of(moment))}" for what, moment in told if moment)
    if tier["identity_changed"]:
        return f"{said}; its keys changed since 'cdr identity export'"
    return said


def _rows(client: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    """A row for each version that is not settled, and for the newest that is."""
    contact = _ago(age_of(client["last_contact"])) if client["last_contact"] else "-"
    name, group = f"  {client['name']}", client["group"]
    if not client["versions"]:
        yield name, group, "-", "no version yet", "-", contact
    for version in client["versions"]:
        reason = f": {version['reason']}" if version["reason"] else ""
        if version["verified"]:
            reason = f" {_ago(age_of(version['verified']))}{reason}"
        yield name, group, version["number"], f"{version['state']}{reason}", _ago(version["age_s"]), contact


def _ago(age_s: int | None) -> str:
    if age_s is None:
        return "-"
    age = format_age(age_s)
    return age if age == "now" else f"{age} ago"
