"""What is known of one tier just now: what waits in it and for what, and where each client's versions are.

Nothing here changes anything, and nothing that cannot be found out hides the rest. Times are RFC 3339.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cdr_plugin.cli.care_status import CareStatus, care_of_group, moment_of
from cdr_plugin.convenience import RECEIVED, SENT, Convenience, last_done_s, received, receiving_by_group, sending
from cdr_plugin.errors import CdrError, FormatError
from cdr_plugin.files import folder_bytes
from cdr_plugin.identity.exported import last_export
from cdr_plugin.model.times import parse_time

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.client.state import ClientState
    from cdr_plugin.client.tier import ClientTier
    from cdr_plugin.config import TierConfig
    from cdr_plugin.plugins import Plugins
    from cdr_plugin.top.tier import TopTier

_ANSWER_S = 5.0
"""Seconds for which people wait for a condition that asks the network."""
_SETTLED = ("committed", "verified")


class Version(Protocol):
    """What a version row of a client and one of a top tier have in common."""

    @property
    def number(self) -> int: ...
    @property
    def hash(self) -> bytes: ...
    @property
    def state(self) -> str: ...
    @property
    def time(self) -> str: ...
    @property
    def reason(self) -> str: ...


VerifiedTimes = Mapping[tuple[int, bytes], int]
"""Number and record hash of each verified version, and when a check covered it, in seconds since 1970."""


def tier_status(context: Context, config: TierConfig) -> dict[str, Any]:
    """One tier, as ``cdr status --json`` shows it; what went wrong is said in ``waiting_for``."""
    found: dict[str, Any] = {
        "name": config.name,
        "role": config.role.value,
        "queue": {"segments": 0, "bytes": 0},
        "inbox_bytes": 0,
        "inbox_limit": None,
        "inbox_unknown_bytes": 0,
        "landed_bytes": 0,
        "retained_bytes": 0,
        "waiting_for": "",
        "ask_again": None,
        "last_sent": None,
        "last_received": None,
        "identity_exported": None,
        "identity_changed": False,
        "error": None,
        "care": [],
        "clients": [],
    }
    try:
        _fill(context, config, found)
    except CdrError as error:
        found["error"] = str(error)
        found["waiting_for"] = _joined(found["waiting_for"], str(error))
    return found


def _fill(context: Context, config: TierConfig, found: dict[str, Any]) -> None:
    done = _last_done(config)
    found["last_sent"], found["last_received"] = moment_of(done.get(SENT)), moment_of(done.get(RECEIVED))
    if (export := last_export(config.state, config.identity)) is not None:
        found["identity_exported"], found["identity_changed"] = moment_of(export.made_s), not export.is_current
    if config.source is not None:
        _client(context, config, found)
    if config.receive is not None and config.forward is not None:
        _queue_of_intermediate(context, config, found)
    if config.receive is not None and config.receive.agentless and not _opens(context, config):
        found["clients"] += _agentless(context, config)
    if found["queue"]["segments"]:
        _wait(found, "'cdr send'", sending(config, context.plugins), done.get(SENT))
    if config.receive is not None:
        _look_below(context, config, found)
    if config.receive is not None:  # last, since an inbox that is out of reach ends it
        found["inbox_limit"] = config.receive.max_size
        inboxes = list(_inboxes(context.plugins, config))
        found["inbox_bytes"] = sum(size for _, size in inboxes)
        if inboxes and _opens(context, config):
            found["inbox_unknown_bytes"] = _unknown_bytes(context, config, inboxes)
        if any(not name.endswith("/head") for name, _ in inboxes):
            for group, policy in receiving_by_group(config, context.plugins).items():
                _wait(found, "'cdr receive'", policy, done.get(received(group)))


def _wait(found: dict[str, Any], command: str, policy: Convenience, done_s: float | None) -> None:
    """Name what ``command`` waits for: its conditions, else that somebody runs it."""
    verdict = replace(policy, answer_s=_ANSWER_S).ask(done_s)
    found["waiting_for"] = _joined(found["waiting_for"], command if verdict.convenient else verdict.reason)
    if not verdict.convenient:
        again = moment_of(time.time() + verdict.ask_again_s)
        found["ask_again"] = min(filter(None, (found["ask_again"], again)))


def _last_done(config: TierConfig) -> dict[str, float | None]:
    if not (config.state / "tier" / "state.db").exists():
        return {}  # nothing was done yet, and asking would make it
    from cdr_plugin.assembly import tier_state

    state = tier_state(config)
    try:
        return {what: last_done_s(state, what) for what in (SENT, RECEIVED, *map(received, config.groups))}
    finally:
        state.close()


# --- clients, seen from themselves ---


def _client(context: Context, config: TierConfig, found: dict[str, Any]) -> None:
    from cdr_plugin.assembly import client_tier

    client = client_tier(config, context.plugins)
    segments, waiting = client.state.queue()
    found["queue"] = {"segments": segments, "bytes": waiting}
    found["waiting_for"] = _joined(found["waiting_for"], (client.state.get("notice") or b"").decode())
    found["clients"].append(_row_of(client, found["last_sent"]))


def _row_of(client: ClientTier, last_sent: str | None) -> dict[str, Any]:
    from cdr_plugin.client.verified import verified_times

    receipt = client.state.get("receipt_time")
    versions = _open_versions(client.state)
    row = _client_row(client.name, client.enrolled_group, versions, _Above(client), verified_times(client.state))
    row["last_receipt"] = moment_of(float(receipt)) if receipt else None
    row["resting_segments"], row["resting_bytes"] = client.state.holdings.resting()
    contacts = [moment for moment in (row["last_receipt"], last_sent) if moment]
    row["last_contact"] = max(contacts, default=None)
    return row


def _opens(context: Context, config: TierConfig) -> bool:
    """Does the tier know whose segments it takes?"""
    from cdr_plugin.assembly import is_reducing

    return config.store is not None or is_reducing(config, context.plugins)


def _agentless(context: Context, config: TierConfig) -> Iterator[dict[str, Any]]:
    """The clients for which a tier that opens nothing makes versions; other tiers' registers name theirs."""
    from cdr_plugin.assembly import client_tier
    from cdr_plugin.config.agentless import agentless_clients

    for one in agentless_clients(config):
        client = client_tier(one, context.plugins)
        yield _row_of(client, None)
        client.state.close()


def _open_versions(state: ClientState) -> Sequence[Version]:
    """The newest that is settled, and all behind it: versions are committed in the order of their numbers."""
    settled = ",".join(f"'{one}'" for one in _SETTLED)
    newest = f"SELECT COALESCE(MAX(number), 0) FROM versions WHERE state IN ({settled})"
    return state.versions(f"WHERE number >= ({newest}) ORDER BY number")


class _Above:
    """The name of the tier that a client's receipts come from; its ticket is read only when somebody asks,
    which needs the crypto library: 60 ms."""

    def __init__(self, client: ClientTier) -> None:
        self._client = client

    def __str__(self) -> str:
        return self._client.ticket.tiers[0].name


# --- clients, seen from a tier that knows them ---


def _look_below(context: Context, config: TierConfig, found: dict[str, Any]) -> None:
    from cdr_plugin.assembly import receiving_tiers
    from cdr_plugin.top.landed import landed_bytes

    for top in receiving_tiers(context.config, config, context.plugins, context.output):
        try:
            care = care_of_group(top)
            found["landed_bytes"] += landed_bytes(top)
            found["care"].append(care.fields)
            found["clients"] += _clients_of_group(top, care)
        finally:
            top.close()


def _clients_of_group(top: TopTier, care: CareStatus) -> Iterator[dict[str, Any]]:
    from cdr_plugin.top.usage import Usage

    top.require_identity()
    for client in top.register.makers(top.group):
        versions = top.versions_told(client, top.state.client(client.fingerprint).versions())
        settled = max((v.number for v in versions if v.state in _SETTLED), default=0)
        shown = [v for v in versions if v.number >= settled]
        row = _client_row(client.name, client.group, shown, top.name, care.verified_of(client.fingerprint))
        usage = Usage(top.state, client)
        yield {
            **row,
            "delivered_bytes": usage.delivered,
            "quota": top.quota,
            "warning": usage.warning,
            "last_receipt": None,
            "last_contact": None,
            "enrolled": moment_of(client.enrolled_s),
            "register": client.state.value,
            "first_version_time": versions[0].time if versions else None,
        }


def _client_row(
    name: str, group: str, versions: Sequence[Version], above: object, verified: VerifiedTimes
) -> dict[str, Any]:
    """``versions``: the newest that is settled, and all behind it; ``above``: the tier that has those which
    are stored."""
    shown = [version_fields(version, above, verified) for version in versions]
    newest: dict[str, Any] = shown[-1] if shown else {"number": None, "state": None, "time": None, "reason": ""}
    return {
        "name": name,
        "group": group,
        "last_version": newest["number"],
        "state": newest["state"],
        "last_stored": max((version.number for version in versions if version.state in _SETTLED), default=None),
        "last_verified": max((number for number, _ in verified), default=None),
        "last_version_time": newest["time"],
        "reason": newest["reason"],
        "versions": shown,
    }


def version_fields(version: Version, above: object, verified: VerifiedTimes) -> dict[str, Any]:
    """One version, as every command shows it."""
    state = f"at tier {above}" if version.state in ("stored", "pending") else str(version.state)
    verified_s = verified.get((version.number, version.hash)) if state == "committed" else None
    return {
        "number": version.number,
        "state": state if verified_s is None else "verified",
        "time": version.time,
        "age_s": age_of(version.time),
        "verified": moment_of(verified_s),
        "reason": version.reason,
    }


# --- inboxes and spools ---


def _queue_of_intermediate(context: Context, config: TierConfig, found: dict[str, Any]) -> None:
    from cdr_plugin.assembly import intermediate_tier, is_reducing, reducing_tiers

    if not is_reducing(config, context.plugins):
        segments, waiting = intermediate_tier(config, context.plugins).queue()
        found["queue"]["segments"] += segments
        found["queue"]["bytes"] += waiting
        return
    for tier in reducing_tiers(context.config, config, context.plugins, context.output):
        with closing(tier):
            for uplink in tier.uplinks:
                segments, waiting = uplink.state.queue()
                found["queue"]["segments"] += segments
                found["queue"]["bytes"] += waiting
        found["retained_bytes"] += folder_bytes(Path(tier.repository))


def _inboxes(plugins: Plugins, config: TierConfig) -> Iterator[tuple[str, int]]:
    """Names and sizes of what lies in the inboxes, of the tier and of its groups."""
    assert config.receive is not None
    from cdr_plugin.parcel.layout import put_objects

    of_groups: Iterable[str] = chain(*(group.inbox for group in config.groups.values()))
    for url in dict.fromkeys((*config.receive.inbox, *of_groups)):
        with plugins.transport(url) as inbox:
            yield from ((info.name, info.size) for info in put_objects(inbox))


def _unknown_bytes(context: Context, config: TierConfig, inboxes: Iterable[tuple[str, int]]) -> int:
    """What lies there of senders whose segments are not taken."""
    from cdr_plugin.assembly import receiving_tiers
    from cdr_plugin.parcel.layout import client_folder
    from cdr_plugin.top.room import known_folders

    for top in receiving_tiers(context.config, config, context.plugins, context.output):
        known = known_folders(top.register)  # one register for all groups
        top.close()
        return sum(size for name, size in inboxes if client_folder(name) not in known | {""})
    return 0


# --- values ---


def _joined(*reasons: str) -> str:
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def age_of(moment: str) -> int | None:
    """By the clock of this machine, at least 0: that of the client may be ahead."""
    try:
        return max(int(time.time()) - parse_time(moment)[0], 0)
    except FormatError:
        return None
