"""``cdr versions``: every version of each client, and how far it has come."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.care_status import care_of_group
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_age, format_table
from cdr_plugin.cli.tier_status import age_of, version_fields
from cdr_plugin.cli.work import each
from cdr_plugin.errors import CdrError

if TYPE_CHECKING:
    from cdr_plugin.client.state import VersionRow as ClientVersion
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.config import TierConfig
    from cdr_plugin.top.state import VersionRow as TopVersion
    from cdr_plugin.top.tier import TopTier

HELP = """Show every version of each client and its state, as the client itself knows it, and as the top tier does:
captured, in transit, at a tier, committed (a snapshot at the top), verified (a check covered it), removed (it was
committed, and its snapshot is not in the repository any more), incomplete, rejected."""

REMOVED = "removed"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", "--host", dest="clients", action="append", default=[], metavar="NAME")
    parser.add_argument("--group", "-G", help="of this group only")


def run(context: Context) -> int:
    found: list[dict[str, Any]] = []

    def look(tier: TierConfig) -> int:
        found.extend(row for row in _clients_of(context, tier) if _is_meant(context, row))
        return 0

    tiers = [tier for tier in context.queues if tier.source is not None or tier.store is not None]
    code = each(context, tiers, "look at the versions of", look)
    for client in found:
        _show(context, client)
    if not found:
        context.output.line("no client fits")
    context.output.summary({"clients": found})
    return code


def _is_meant(context: Context, row: Mapping[str, Any]) -> bool:
    options = context.options
    return (not options.clients or row["client"] in options.clients) and options.group in (None, row["group"])


def _clients_of(context: Context, config: TierConfig) -> Iterator[dict[str, Any]]:
    if config.source is not None:
        from cdr_plugin.assembly import client_tier

        client = client_tier(config, context.plugins)
        with closing(client.state):
            yield _of_client(config.name, client)
    if config.store is not None:
        from cdr_plugin.assembly import top_tiers

        for top in top_tiers(context.config, config, context.plugins, context.output):
            with closing(top):
                yield from _of_top(context, top)


# --- as the client knows them ---


def _of_client(tier: str, client: ClientTier) -> dict[str, Any]:
    from cdr_plugin.client.standing import removed_versions
    from cdr_plugin.client.verified import verified_times

    removed, verified = removed_versions(client.state), verified_times(client.state)

    def is_removed(row: ClientVersion) -> bool:
        return (row.number, row.hash) in removed

    above = client.ticket.tiers[-1].name
    rows = client.state.versions()
    versions = [
        _version(version_fields(row, above, verified), row.snapshot, is_removed=is_removed(row)) for row in rows
    ]
    return {"tier": tier, "client": client.name, "group": client.enrolled_group, "versions": versions}


# --- as the top tier knows them ---


def _of_top(context: Context, top: TopTier) -> Iterator[dict[str, Any]]:
    top.require_identity()
    care, present = care_of_group(top), _present(context, top)

    def is_removed(row: TopVersion) -> bool:
        return present is not None and row.snapshot not in present and row.hash not in present

    for client in top.register.makers(top.group):
        verified = care.verified_of(client.fingerprint)
        rows = top.versions_told(client, top.state.client(client.fingerprint).versions())
        versions = [
            _version(version_fields(row, top.name, verified), row.snapshot, is_removed=is_removed(row)) for row in rows
        ]
        yield {"tier": top.name, "client": client.name, "group": client.group, "versions": versions}


def _present(context: Context, top: TopTier) -> set[str | bytes] | None:
    """IDs and record hashes of the versions in the repository; None when it cannot be looked into."""
    from cdr_plugin.top.checking import version_keys

    try:
        with closing(top.open_repository()) as repository:
            versions = repository.versions()
    except CdrError as error:
        context.output.note(f"{top.name}, group {top.group}: {error}; what was removed is not told apart")
        return None
    hashes = {record for version in versions for _, _, record in version_keys(version)}
    return {version.id for version in versions} | hashes


def _version(fields: dict[str, Any], snapshot: str, *, is_removed: bool) -> dict[str, Any]:
    if is_removed and fields["state"] in ("committed", "verified"):
        fields |= {"state": REMOVED, "verified": None}
    return {**fields, "snapshot": snapshot or None}


# --- for people ---


def _show(context: Context, client: Mapping[str, Any]) -> None:
    context.output.line(f"{client['client']} (group {client['group']}), says {client['tier']}:")
    if not client["versions"]:
        context.output.line("  no version yet")
        return
    rows = [
        (
            f"  {version['number']}",
            _state(version),
            _ago(version["age_s"]),
            (version["snapshot"] or "-")[:8],
            version["reason"] or "-",
        )
        for version in client["versions"]
    ]
    context.output.line(format_table(("  version", "state", "made", "snapshot", "reason"), rows))


def _state(version: Mapping[str, Any]) -> str:
    return f"{version['state']} {_ago(age_of(version['verified']))}" if version["verified"] else str(version["state"])


def _ago(age_s: int | None) -> str:
    if age_s is None:
        return "-"
    age = format_age(age_s)
    return age if age == "now" else f"{age} ago"
