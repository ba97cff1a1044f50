"""``cdr groups list|suggest``: the groups of a top tier, and which clients belong together."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.choosing import tops_of
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_table
from cdr_plugin.errors import UserError
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.top.proposals import proposed, rules_of
from cdr_plugin.top.state import VersionState
from cdr_plugin.top.tier import TopTier

if TYPE_CHECKING:
    from cdr_plugin.top.suggest import Cluster, Member, Pair

HELP = """list: the groups that a top tier serves: clients, versions, bytes, repository, and clients for which the
rules over their facts propose the group.
suggest: measure what clients' data have in common, and say which of them belong into one group. Nothing is
changed, and nothing of one group is read for another: samples are compared, under a key that is forgotten."""

_MAX_PAIRS = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "suggest"), default="list")
    parser.add_argument("--group", "-G", help="this group only")
    least_help = "suggest: what two must have in common, of the smaller one, to belong together (default 20%%)"
    parser.add_argument("--least", default="20%", metavar="PERCENT", help=least_help)


def run(context: Context) -> int:
    with ExitStack() as stack:
        tops = tops_of(context, stack, context.options.group)
        return _list(context, tops) if context.options.action == "list" else _suggest(context, tops)


# --- list ---


def _list(context: Context, tops: Sequence[TopTier]) -> int:
    rules = {tier.name: rules_of(tier) for tier in context.tiers}
    clients = {id(top): top.register.makers(top.group) for top in tops}
    everybody = {(top.name, client.group, client.name): client for top in tops for client in top.register.clients()}
    found = []
    for top in tops:
        elsewhere = [
            name
            for (tier, group, name), client in everybody.items()
            if tier == top.name and group != top.group and top.group in proposed(client.facts, rules[top.name])
        ]
        found.append(_group(top, clients[id(top)], sorted(set(elsewhere))))
    rows = [
        (
            one["tier"],
            one["group"],
            one["clients"],
            one["unknown"],
            one["versions"],
            "-" if one["bytes"] is None else format_bytes(one["bytes"]),
            one["repository"],
            ", ".join(one["proposed_for"]),
        )
        for one in found
    ]
    headers = ("tier", "group", "clients", "unknown", "versions", "size", "repository", "proposed for")
    width = len(headers) if any(row[-1] for row in rows) else len(headers) - 1
    context.output.line(format_table(headers[:width], [row[:width] for row in rows]))
    context.output.document(found)
    return 0


def _group(top: TopTier, clients: Sequence[Client], elsewhere: Sequence[str]) -> dict[str, Any]:
    versions = (version for client in clients for version in top.state.client(client.fingerprint).versions())
    folder = top.plugins.repository_format(top.format).local_folder(top.repository)
    return {
        "tier": top.name,
        "group": top.group,
        "clients": sum(client.state is ClientState.APPROVED for client in clients),
        "unknown": len(top.register.strangers.all(top.group)),
        "versions": sum(version.state is VersionState.COMMITTED for version in versions),
        "bytes": None if folder is None else _size_of(folder),
        "repository": top.repository,
        "proposed_for": elsewhere,
    }


def _size_of(folder: Path) -> int:
    """Bytes of the files in a folder, as they are just now."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(f"{place}/{name}").st_size
            except FileNotFoundError:  # a prune is at work
                continue
    return total


# --- suggest ---


def _suggest(context: Context, tops: Sequence[TopTier]) -> int:
    from cdr_plugin.top.suggest import clusters, pairs

    least = _fraction(context.options.least)
    key = secrets.token_bytes(32)
    members = [member for top in tops for member in _measure(context, top, key)]
    found, together = pairs(members), clusters(members, least_shared=least)
    _show_pairs(context, found)
    for cluster in together:
        _show_cluster(context, cluster)
    if not together:
        context.output.line(
            f"no two of {len(members)} clients have {context.options.least} of the smaller one in common"
        )
    context.output.document(
        {
            "clients": [_member(member) for member in members],
            "pairs": [_pair(pair) for pair in found],
            "clusters": [_cluster(cluster) for cluster in together],
        }
    )
    return 0


def _fraction(text: str) -> float:
    try:
        percent = float(text.removesuffix("%"))
    except ValueError:
        percent = -1
    if not 0 < percent <= 100:
        raise UserError(f"--least: expected a part such as 20%, not {text!r}")
    return percent / 100


def _measure(context: Context, top: TopTier, key: bytes) -> list[Member]:
    from cdr_plugin.top.suggest import measure

    clients = [
        client
        for client in top.register.makers(top.group)
        if client.state is ClientState.APPROVED
    ]
    with closing(top.open_repository()) as repository, repository.reading() as reader:
        found: list[Member] = []
        for client in clients:
            context.output.progress(clients_measured=len(found))
            found.append(measure(client, top.state.client(client.fingerprint), reader, repository.chunker, key))
    return found


def _show_pairs(context: Context, pairs: Sequence[Pair]) -> None:
    rows = [
        (_name(pair.one), _name(pair.other), f"{pair.share:.0%}", format_bytes(pair.bytes))
        for pair in pairs[:_MAX_PAIRS]
    ]
    if rows:
        context.output.line(format_table(("client", "client", "in common", "bytes"), rows))
    if len(pairs) > _MAX_PAIRS:
        context.output.line(f"{len(pairs) - _MAX_PAIRS} more pairs, see --json")


def _show_cluster(context: Context, cluster: Cluster) -> None:
    names = ", ".join(_name(member) for member in cluster.members)
    saves = f"would save {format_bytes(cluster.bytes_saved)}" if _crosses(cluster) else "are together already"
    context.output.line(
        f"{names}: {saves}; {format_bytes(cluster.bytes_alone)} each for itself, "
        f"{format_bytes(cluster.bytes_together)} in one group"
    )


def _crosses(cluster: Cluster) -> bool:
    return len({member.group for member in cluster.members}) > 1


def _name(member: Member) -> str:
    return f"{member.group}/{member.name}"


def _member(member: Member) -> dict[str, Any]:
    return {"group": member.group, "name": member.name, "bytes": member.bytes, "blobs": member.blobs}


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "clients": [_member(pair.one), _member(pair.other)],
        "bytes_shared": pair.bytes,
        "share_of_smaller": round(pair.share, 4),
    }


def _cluster(cluster: Cluster) -> dict[str, Any]:
    return {
        "clients": [_member(member) for member in cluster.members],
        "bytes_alone": cluster.bytes_alone,
        "bytes_now": cluster.bytes_now,
        "bytes_together": cluster.bytes_together,
        "bytes_saved": cluster.bytes_saved,
    }
