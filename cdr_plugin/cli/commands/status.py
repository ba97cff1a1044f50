"""``cdr status``: what is where, and what waits for what."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_age, format_bytes, format_table
from cdr_plugin.errors import CdrError

if TYPE_CHECKING:
    from cdr_plugin.config import TierConfig
    from cdr_plugin.plugins import Plugins

HELP = "Show per tier: its role, what waits in its queue and inbox, and the state of each client's newest version."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(context: Context) -> int:
    tiers = [_tier(context, tier) for tier in context.tiers]
    context.output.summary({"tiers": tiers})
    for tier in tiers:
        _show(context, tier)
    return 0


def _tier(context: Context, config: TierConfig) -> dict[str, Any]:
    """One tier; what cannot be found out now is said in ``waiting_for`` and does not hide the rest."""
    found: dict[str, Any] = {
        "name": config.name,
        "role": config.role.value,
        "queue": {"segments": 0, "bytes": 0},
        "inbox_bytes": 0,
        "retained_bytes": 0,
        "waiting_for": "",
        "clients": [],
    }
    try:
        if config.source is not None:
            _client(context, config, found)
        if config.receive is not None:
            found["inbox_bytes"] = sum(_stored(context.plugins, config.receive.inbox))
            if config.store is not None:
                found["clients"] += list(_clients(context, config))
            else:
                _forwarder(context, config, found)
    except CdrError as error:
        found["waiting_for"] = str(error)
    return found


def _client(context: Context, config: TierConfig, found: dict[str, Any]) -> None:
    from cdr_plugin.assembly import client_tier
    from cdr_plugin.client.states import VersionState

    client = client_tier(config, context.plugins)
    segments, waiting = client.state.queue()
    found["queue"] = {"segments": segments, "bytes": waiting}
    found["waiting_for"] = "'cdr send'" if segments else ""
    versions = client.state.versions()
    newest = versions[-1] if versions else None
    committed = [v for v in versions if v.state is VersionState.COMMITTED]
    receipt = client.state.get("receipt_time")
    found["clients"].append(
        {
            "name": client.name,
            "group": client.enrolled_group,
            "last_version": newest.number if newest else None,
            "state": newest.state.value if newest else None,
            "last_stored": committed[-1].number if committed else None,
            "last_version_time": newest.time if newest else None,
            "last_receipt": int(receipt) if receipt else None,
        }
    )


def _forwarder(context: Context, config: TierConfig, found: dict[str, Any]) -> None:
    from cdr_plugin.assembly import intermediate_tier

    segments, waiting = intermediate_tier(config, context.plugins).queue()
    found["queue"] = {"segments": segments, "bytes": waiting}
    if segments:
        found["waiting_for"] = "'cdr send'"
    elif any(_segments(context.plugins, config)):
        found["waiting_for"] = "'cdr receive'"


def _stored(plugins: Plugins, urls: Iterable[str]) -> Iterator[int]:
    for url in urls:
        with plugins.transport(url) as inbox:
            yield from (info.size for info in inbox.list("clients"))


def _segments(plugins: Plugins, config: TierConfig) -> Iterator[bool]:
    """Something in an inbox that can be taken: heads stay where they are."""
    for url in config.receive.inbox if config.receive else ():
        with plugins.transport(url) as inbox:
            yield from (not info.name.endswith("/head") for info in inbox.list("clients"))


def _clients(context: Context, config: TierConfig) -> Iterator[dict[str, Any]]:
    from cdr_plugin.assembly import top_tiers
    from cdr_plugin.top.state import VersionState

    for top in top_tiers(context.config, config, context.plugins, context.output):
        top.require_identity()
        for client in top.register.clients(top.group):
            versions = top.state.client(client.fingerprint).versions()
            newest = versions[-1] if versions else None
            committed = [v for v in versions if v.state is VersionState.COMMITTED]
            yield {
                "name": client.name,
                "group": client.group,
                "last_version": newest.number if newest else None,
                "state": newest.state.value if newest else None,
                "last_stored": committed[-1].number if committed else None,
                "last_version_time": newest.time if newest else None,
                "last_receipt": None,
                "reason": newest.reason if newest else "",
            }
        top.close()


def _show(context: Context, tier: dict[str, Any]) -> None:
    queue = tier["queue"]
    waiting = f"; waits for {tier['waiting_for']}" if tier["waiting_for"] else ""
    context.output.line(
        f"{tier['name']} ({tier['role']}): queue {queue['segments']} segments, {format_bytes(queue['bytes'])}; "
        f"inbox {format_bytes(tier['inbox_bytes'])}{waiting}"
    )
    rows = [
        (
            f"  {c['name']}",
            c["group"],
            c["last_version"] or "-",
            c["state"] or "no version yet",
            c["last_stored"] or "-",
            format_age(time.time() - c["last_receipt"]) if c["last_receipt"] else "-",
        )
        for c in tier["clients"]
    ]
    if rows:
        headers = ("  client", "group", "version", "state", "committed", "last receipt")
        context.output.line(format_table(headers, rows))
