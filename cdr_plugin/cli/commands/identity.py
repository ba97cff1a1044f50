"""``cdr identity``: the keys of a tier: show, export, rotate, recover."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_bytes, format_table
from cdr_plugin.config import TierConfig
from cdr_plugin.errors import UserError
from cdr_plugin.identity.export_file import MAX_EXPORT_BYTES, open_export
from cdr_plugin.identity.exporting import collect, write_export
from cdr_plugin.identity.keys import short
from cdr_plugin.identity.recovering import recover
from cdr_plugin.identity.store import Identity
from cdr_plugin.passwords import read_passphrase

HELP = """The keys of a tier.

  cdr identity show          fingerprints of the keys of each tier
  cdr identity export FILE   write what must not be lost into FILE, under a passphrase: keys, register of
                             clients, ticket, time zone. Keep it away from this machine
  cdr identity recover FILE  put it back on a machine that has lost it, or on a new one; then run 'cdr init'
  cdr identity rotate        new sealing keys, of one group or of all; --signing: a new signing key as well.
                             Clients learn them with their next 'cdr send'; what is under way still arrives

The passphrase comes from --passphrase-file, --passphrase-command or CDR_PASSPHRASE, else it is typed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=list(_ACTIONS), metavar="show|export|recover|rotate")
    add("file", nargs="?", metavar="FILE", type=Path)
    add("--passphrase-file", metavar="FILE", type=Path)
    add("--passphrase-command", metavar="COMMAND", help="a command that prints it")
    add("--group", "-G", help="rotate: the sealing key of this group only")
    add("--signing", action="store_true", help="rotate: the signing key too; the old one signs the new one")
    drop = "rotate: no new key, but forget the older sealing keys; what is still sealed to them is sent again"
    add("--drop-old", action="store_true", help=drop)


def run(context: Context) -> int:
    options = context.options
    if (options.action in ("export", "recover")) != (options.file is not None):
        raise UserError("'export' and 'recover' take the name of a file, and nothing else does")
    if options.action != "rotate" and (options.group or options.signing or options.drop_old):
        raise UserError("--group, --signing and --drop-old belong to 'rotate'")
    _ACTIONS[options.action](context)
    return 0


def _one(context: Context) -> TierConfig:
    """The tier to work with; UserError unless it is one that can have an identity."""
    able = [tier for tier in context.tiers if _has_identity(tier)]
    if len(able) == 1:
        return able[0]
    if not able:
        names = ", ".join(tier.name for tier in context.tiers)
        raise UserError(f"{names}: no identity to work with; a tier that moves segments unopened has none")
    raise UserError(f"choose one tier with -T (there are: {', '.join(tier.name for tier in able)})")


def _has_identity(tier: TierConfig) -> bool:
    agentless = tier.receive is not None and tier.receive.agentless
    return bool(tier.source or tier.store or tier.reduce.methods or agentless)


# --- show ---


def _show(context: Context) -> None:
    found = [_described(tier) for tier in context.tiers if (tier.identity / "identity.key").exists()]
    rows = [
        (tier["name"], group["name"], tier["fingerprint"], group["sealing_key"], group["older_keys"])
        for tier in found
        for group in tier["groups"] or [{"name": "-", "sealing_key": "-", "older_keys": "-"}]
    ]
    context.output.line(format_table(("tier", "group", "fingerprint", "sealing key", "older keys"), rows))
    context.output.summary({"tiers": found})


def _described(tier: TierConfig) -> dict[str, Any]:
    identity = Identity.load(tier.identity)
    groups = []
    for group in identity.groups():
        newest, *older = identity.sealing_keys(group)
        groups.append(
            {"name": group, "sealing_key": short(newest.public.fingerprint), "older_keys": len(older)},
        )
    return {
        "name": tier.name,
        "fingerprint": identity.signing.public.fingerprint.hex()[:32],
        "predecessors": [one.verify_key.fingerprint.hex()[:32] for one in identity.predecessors],
        "suite": identity.suite.label,
        "groups": groups,
    }


# --- export, recover ---


def _export(context: Context) -> None:
    options, tier = context.options, _one(context)
    export = collect(tier.name, tier.role.value, tier.identity, tier.state)
    passphrase = read_passphrase(options.passphrase_file, options.passphrase_command, new=True)
    write_export(export, options.file, passphrase, tier.state, tier.identity)
    size = options.file.stat().st_size
    context.output.line(f"exported {tier.name} ({tier.role.value}) to {options.file}: {format_bytes(size)}")
    context.output.note("keep it and its passphrase away from this machine, beside the configuration")
    context.output.summary({"tier": tier.name, "file": str(options.file), "bytes": size, "holds": _holds(export)})


def _holds(export: Any) -> list[str]:
    facts = (f"{folder}: {', '.join(sorted(state.facts))}" for folder, state in export.states.items())
    return [*sorted(export.files), *(f"state {text}" for text in facts)]


def _recover(context: Context) -> None:
    options, tier = context.options, _one(context)
    data = _read(options.file)
    export = open_export(data, read_passphrase(options.passphrase_file, options.passphrase_command))
    if (export.tier, export.role) != (tier.name, tier.role.value):
        raise UserError(
            f"{options.file}: an export of {export.tier} ({export.role}), while the configuration has {tier.name} "
            f"({tier.role.value}); choose its tier with -T, or name it so"
        )
    written = recover(export, tier.identity, tier.state)
    context.output.line(f"recovered {tier.name} ({tier.role.value}) from {options.file}")
    after = "'cdr receive'" if tier.receive is not None else "'cdr send'"
    context.output.line(f"run 'cdr init' next, which makes what is missing, then {after}")
    context.output.summary({"tier": tier.name, "files": [str(path) for path in written], "made_s": export.made_s})


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_EXPORT_BYTES + 4096)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


# --- rotate ---


def _rotate(context: Context) -> None:
    options, tier = context.options, _one(context)
    if tier.receive is None:
        _rotate_client(context, tier)
        return
    if options.signing and options.drop_old:
        raise UserError("--drop-old makes no new key; rotate first, and drop when what was under way has arrived")
    if options.drop_old and tier.forward is not None:
        raise UserError(
            f"tier {tier.name}: the tier above seals to the key that was newest when this one enrolled; older keys stay"
        )
    if options.signing and tier.forward is not None:
        raise UserError(
            f"tier {tier.name}: the tier above knows it by its signing key; without --signing its sealing keys rotate"
        )
    identity = Identity.load(tier.identity)
    groups = identity.groups() if options.group is None else [options.group]
    unknown = [group for group in groups if not identity.sealing_keys(group)]
    if unknown or not groups:
        raise UserError(f"tier {tier.name}: no key for group {(unknown or ['-'])[0]}; see 'cdr identity show'")
    change = _drop_old if options.drop_old else _rotate_group
    done = [change(context, identity, group) for group in groups]
    if options.signing:
        identity = identity.rotate_signing_key()
        context.output.line(f"new signing key, fingerprint {identity.signing.public.fingerprint.hex()[:32]}")
    context.output.note("now 'cdr receive', which tells the clients, and 'cdr identity export': the last is old now")
    fingerprint = identity.signing.public.fingerprint.hex()[:32]
    context.output.summary({"tier": tier.name, "fingerprint": fingerprint, "groups": done})


def _rotate_client(context: Context, tier: TierConfig) -> None:
    from cdr_plugin.assembly import client_tier
    from cdr_plugin.client.rotating import rotate_keys
    from cdr_plugin.config.queues import queues_of

    options = context.options
    if not options.signing or options.group or options.drop_old:
        raise UserError(f"tier {tier.name}: a client's keys are replaced together; use 'cdr identity rotate --signing'")
    fingerprint = rotate_keys([client_tier(queue, context.plugins) for queue in queues_of(tier)])[:32]
    context.output.line(f"new keys of client {tier.name}, fingerprint {fingerprint}")
    context.output.note("now 'cdr send', which tells the tier above, and 'cdr identity export': the last is old now")
    context.output.summary({"tier": tier.name, "fingerprint": fingerprint, "groups": []})


def _rotate_group(context: Context, identity: Identity, group: str) -> dict[str, Any]:
    key = short(identity.rotate_sealing_key(group).public.fingerprint)
    context.output.line(f"new sealing key of group {group}: {key}")
    return {"name": group, "sealing_key": key, "dropped": 0}


def _drop_old(context: Context, identity: Identity, group: str) -> dict[str, Any]:
    dropped = identity.drop_old_sealing_keys(group)
    context.output.line(f"group {group}: {dropped} older sealing keys are gone")
    return {"name": group, "sealing_key": short(identity.sealing_key(group).public.fingerprint), "dropped": dropped}


_ACTIONS: dict[str, Callable[[Context], None]] = {
    "show": _show,
    "export": _export,
    "recover": _recover,
    "rotate": _rotate,
}
