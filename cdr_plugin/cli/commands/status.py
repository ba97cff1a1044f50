"""``cdr status``: what is where, and what waits for what."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_age, format_bytes, format_table
from cdr_plugin.cli.tier_status import age_of, tier_status

HELP = """Show per tier: its role, what waits in its queue and inbox and for which condition, and where the
versions of each client are."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    tiers = [tier_status(context, tier) for tier in context.queues]
    context.output.summary({"tiers": tiers})
    for tier in tiers:
        _show(context, tier)
    return 0


def _show(context: Context, tier: dict[str, Any]) -> None:
    queue = tier["queue"]
    context.output.line(
        f"{tier['name']} ({tier['role']}): queue {queue['segments']} segments, {format_bytes(queue['bytes'])}; "
        f"inbox {_inbox(tier)}{_waits(tier)}{_did(tier)}"
    )
    rows = [row for client in tier["clients"] for row in _rows(client)]
    if rows:
        headers = ("  client", "group", "version", "state", "made", "last contact")
        context.output.line(format_table(headers, rows))
    for client in tier["clients"]:
        if client.get("resting_bytes"):
            context.output.line(
                f"  {client['name']}: {client['resting_segments']} segments, {format_bytes(client['resting_bytes'])}, "
                "can only be sent again from the source as it is now"
            )


def _inbox(tier: dict[str, Any]) -> str:
    limit, unknown = tier["inbox_limit"], tier["inbox_unknown_bytes"]
    of_limit = f" of {format_bytes(limit)}" if limit is not None else ""
    of_unknown = f", {format_bytes(unknown)} of unknown senders" if unknown else ""
    return f"{format_bytes(tier['inbox_bytes'])}{of_limit}{of_unknown}"


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
        yield name, group, version["number"], f"{version['state']}{reason}", _ago(version["age_s"]), contact


def _ago(age_s: int | None) -> str:
    if age_s is None:
        return "-"
    age = format_age(age_s)
    return age if age == "now" else f"{age} ago"
