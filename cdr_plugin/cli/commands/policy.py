"""``cdr policy show|publish``: what the top tier says to the tiers of a group."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.choosing import one_top, tops_of
from cdr_plugin.cli.context import Context
from cdr_plugin.cli.formatting import format_table
from cdr_plugin.errors import NotConvenientError, UserError

if TYPE_CHECKING:
    from cdr_plugin.config.adopted import Part
    from cdr_plugin.config.policy import Setting
    from cdr_plugin.config.schema import TierConfig
    from cdr_plugin.top.tier import TopTier

HELP = """show: which policy is in force at each tier, and where each of its keys comes from.
publish FILE: make FILE the policy of a group, at its top tier. Clients with policy = "inherit" adopt it
on their next contact, within the limits of their own configuration. --withdraw takes it back.

FILE is TOML with the tables source, spool, forward and receive, and of their keys those that set times, limits,
retention and exclusions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("show", "publish"))
    parser.add_argument("file", nargs="?", help="the policy, or - for standard input")
    parser.add_argument("--group", "-G", help="the group (default: the only one)")
    parser.add_argument("--withdraw", action="store_true", help="publish a policy that says nothing")


def run(context: Context) -> int:
    with ExitStack() as stack:
        return _publish(context, stack) if context.options.action == "publish" else _show(context, stack)


# --- publishing ---


def _publish(context: Context, stack: ExitStack) -> int:
    from cdr_plugin.config.policy import parse_policy

    options = context.options
    if (options.file is None) != options.withdraw:
        raise UserError("name the file that holds the policy, or --withdraw")
    text = "" if options.withdraw else _read(options.file)
    parse_policy(text, Path(options.file or "-"))
    top = one_top(context, stack, options.group, only_ends=True)
    top.require_identity()
    serial, told = _tell(context, top, text)
    done = "withdrawn" if options.withdraw else "published"
    context.output.line(f"policy of group {top.group} {done} (serial {serial}); {told} clients are told of it")
    context.output.summary({"group": top.group, "serial": serial, "clients": told})
    return 0


def _read(name: str) -> str:
    from cdr_plugin.config.load import read_text
    from cdr_plugin.parcel.limits import MAX_POLICY_CHARS

    text = sys.stdin.read(MAX_POLICY_CHARS + 1) if name == "-" else read_text(Path(name))
    if len(text) > MAX_POLICY_CHARS:
        raise UserError(f"{name}: more than {MAX_POLICY_CHARS} characters, which is the most that a policy may have")
    return text


def _tell(context: Context, top: TopTier, text: str) -> tuple[int, int]:
    """The policy's serial, and how many clients' inboxes have it. What cannot be written now, the next pass
    of ``cdr receive`` writes."""
    from cdr_plugin.files import exclusive
    from cdr_plugin.top.inbox import Inboxes
    from cdr_plugin.top.policy import publish_policy, set_policy

    policy = set_policy(top, text)
    try:
        with (
            exclusive(top.state_folder / "receive.lock", f"receiving of {top.name}"),
            Inboxes(top.plugins, top.inboxes, context.output) as inboxes,
        ):
            return policy.serial, publish_policy(top, inboxes, inboxes.listings())
    except NotConvenientError as error:
        context.output.note(f"{error}; 'cdr receive' tells the clients")
        return policy.serial, 0


# --- showing ---


def _show(context: Context, stack: ExitStack) -> int:
    found = [*_published(context, stack), *_inherited(context)]
    if not found:
        context.output.line(f"{context.config.path}: no tier that publishes or inherits a policy")
    context.output.document(found)
    for one in found:
        _say(context, one)
    return 0


def _published(context: Context, stack: ExitStack) -> Iterator[dict[str, Any]]:
    if all(tier.store is None for tier in context.tiers):
        return
    for top in tops_of(context, stack, context.options.group, only_ends=True):
        policy = top.register.policy(top.group)
        yield {
            "tier": top.name,
            "group": top.group,
            "role": "publishes",
            "serial": policy.serial if policy else None,
            "since": _moment(policy.published_s) if policy else None,
            "text": policy.text if policy else "",
        }


def _inherited(context: Context) -> Iterator[dict[str, Any]]:
    """Of each part of a tier that inherits for itself, by policy."""
    from cdr_plugin.config.adopted import parts_of
    from cdr_plugin.config.load import load_config

    local = load_config(context.config.path, inherit=False)
    for name in (tier.name for tier in context.tiers if tier.policy == "inherit"):
        set_up, in_force = parts_of(local.tier(name)), parts_of(context.config.tier(name))
        if not set_up and context.options.group is None:
            yield _nothing_adopted(name, "")
        for part, effective in zip(set_up, in_force, strict=True):
            if context.options.group in (None, *({one.group for one in part.adopted} or {part.group})):
                yield from _words(context, part, effective.in_force)


def _words(context: Context, part: Part, effective: TierConfig) -> Iterator[dict[str, Any]]:
    from cdr_plugin.config.effective import as_document
    from cdr_plugin.config.policy import apply

    if not part.adopted:
        yield _nothing_adopted(part.tier.name, part.group)
    shown = as_document(replace(context.config, tiers={"": effective}))["tier"][""]
    for adopted in part.adopted:
        yield {
            **_nothing_adopted(part.tier.name, adopted.group),
            "serial": adopted.serial,
            "since": _moment(adopted.adopted_s),
            "issuer": adopted.issuer,
            "issuer_fingerprint": adopted.key,
            "settings": [
                {
                    "key": f"{setting.table}.{setting.key}",
                    "value": shown[setting.table].get(setting.key),
                    "from": setting.says.value,
                    "note": setting.note or _stricter(setting, effective),
                }
                for setting in apply(part.tier, adopted.policy)[1]
            ],
        }


def _stricter(setting: Setting, effective: TierConfig) -> str:
    found = getattr(getattr(effective, setting.table), setting.key)
    return "" if found == setting.value else "another policy is stricter"


def _nothing_adopted(tier: str, group: str) -> dict[str, Any]:
    facts = dict.fromkeys(("serial", "since", "issuer", "issuer_fingerprint"))
    return {"tier": tier, "group": group or None, "role": "inherits", **facts, "settings": []}


def _say(context: Context, one: dict[str, Any]) -> None:
    line = context.output.line
    who = f"{one['tier']}, group {one['group']}" if one["group"] else one["tier"]
    if one["role"] == "publishes":
        says = f"policy of {one['since']}:\n{one['text'].rstrip()}" if one["text"] else "publishes no policy"
        line(f"{who}: {says}")
        return
    if one["serial"] is None:
        line(f"{who}: nothing adopted yet; 'cdr send' adopts what the top tier publishes")
        return
    line(f"{who}: adopted from {one['issuer']} ({one['issuer_fingerprint'][:16]}) on {one['since']}")
    rows = [(s["key"], _text(s["value"]), s["from"], s["note"]) for s in one["settings"]]
    line(format_table(("key", "in force", "from", ""), rows) if rows else "it sets nothing here")


def _text(value: Any) -> str:
    from cdr_plugin.config.effective import as_value

    return "" if value is None else as_value(value)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
