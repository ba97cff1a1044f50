"""``cdr check --scheduled`` and ``cdr forget --scheduled``: the care that ``store`` asks for, when convenient.

The agent, or cron, says when it is due. A group that was done less than half an interval ago is left out, so that
trying again after the trouble of one group does not repeat the others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from random import SystemRandom
from typing import TYPE_CHECKING, Any

from cdr_plugin.cli.formatting import format_bytes
from cdr_plugin.cli.work import each, every
from cdr_plugin.contracts import Verdict
from cdr_plugin.convenience import CHECKED, FORGOTTEN, caring, last_done_s, note_done
from cdr_plugin.errors import ConfigError, NotConvenientError

if TYPE_CHECKING:
    from cdr_plugin.cli.context import Context
    from cdr_plugin.config import TierConfig
    from cdr_plugin.top.checking import Checked
    from cdr_plugin.top.forgetting import Forgotten
    from cdr_plugin.top.tier import TopTier

RETRY_LOCK_S = 300.0
"""A pass of ``cdr receive`` gives the lock back before."""


@dataclass(slots=True)
class _Done:
    """What a command has done, for its summary. ``unfinished``: tiers of which not every group was looked at."""

    groups: list[dict[str, Any]] = field(default_factory=list)
    waiting_for: list[str] = field(default_factory=list)
    unfinished: set[str] = field(default_factory=set)


_Work = Callable[["Context", "TierConfig", "TopTier", _Done], int]


def scheduled_check(context: Context) -> int:
    """Check the repository of every group whose tier has ``store.check``; 1 when damage was found."""
    done = _Done()
    tiers = [tier for tier in _stores(context, "store.check") if tier.store and tier.store.check]
    code = each(context, tiers, "check", lambda tier: _when_convenient(context, tier, CHECKED, _check, done))
    errors = sum(group["errors"] for group in done.groups)
    _summarize(context, done, {"num_errors": errors})
    return code


def scheduled_forget(context: Context) -> int:
    """Forget in the repository of every group whose tier has ``store.forget``."""
    done = _Done()
    tiers = [tier for tier in _stores(context, "store.forget") if tier.store and tier.store.forget]
    code = each(context, tiers, "forget", lambda tier: _when_convenient(context, tier, FORGOTTEN, _forget, done))
    removed = sum(group["versions_removed"] for group in done.groups)
    _summarize(context, done, {"versions_removed": removed})
    return code


def _summarize(context: Context, done: _Done, fields: dict[str, Any]) -> None:
    waits = "; ".join(done.waiting_for)
    context.output.summary({**fields, "groups": done.groups, "completed": not done.unfinished, "waiting_for": waits})


def _stores(context: Context, key: str) -> Iterator[TierConfig]:
    """Top tiers among those that were chosen; ConfigError for one that was named and has no such key."""
    table = key.removeprefix("store.")
    for tier in context.tiers:
        if tier.store is not None and getattr(tier.store, table) is not None:
            yield tier
        elif tier.name in context.options.tiers:
            raise ConfigError(f"tier {tier.name}: no {key} in {context.config.path}; nothing is scheduled")


def _when_convenient(context: Context, config: TierConfig, what: str, work: _Work, done: _Done) -> int:
    from cdr_plugin.assembly import tier_state, top_tiers

    done.unfinished.add(config.name)
    with closing(tier_state(config)) as state:
        verdict = Verdict(True)
        if not context.options.now:
            verdict = caring(config, context.plugins).ask(last_done_s(state, what))
        if not verdict.convenient:
            done.waiting_for.append(verdict.reason)
            context.output.note(f"{config.name}: {verdict.reason}")
            return NotConvenientError.exit_code
        began_s = time.time()
        tops = top_tiers(context.config, config, context.plugins, context.output)
        jobs = [
            (f"{top.name}, group {top.group}", partial(_closing, context, config, top, work, done))
            for top in tops
            if context.options.group in (None, top.group)
        ]
        groups_before = len(done.groups)
        code = every(context, what, jobs)
        if len(done.groups) == groups_before + len(jobs):  # what was found there is another matter
            done.unfinished.discard(config.name)
            note_done(state, what, began_s)
    return code


def _closing(context: Context, config: TierConfig, top: TopTier, work: _Work, done: _Done) -> int:
    with closing(top):
        return work(context, config, top, done)


def _is_fresh(context: Context, began_s: float | None, every_s: float) -> bool:
    """Was it done less than half an interval ago? A time in the future says nothing."""
    return not context.options.now and began_s is not None and 0 <= time.time() - began_s < every_s / 2


# --- check ---


def _check(context: Context, config: TierConfig, top: TopTier, done: _Done) -> int:
    from cdr_plugin.top.care_state import CareState
    from cdr_plugin.top.checking import check_group

    assert config.store is not None and config.store.check is not None
    plan = config.store.check
    if CareState.exists(top.state_folder):
        with CareState(top.state_folder) as care:
            last = care.last_check()
        if last is not None and not last.errors and _is_fresh(context, last.began_s, plan.every_s):
            done.groups.append({"tier": top.name, "group": top.group, "skipped": True, "errors": 0})
            return 0
    checked = check_group(
        top, plan.read_data_subset or "", context.output, source=SystemRandom(), retry_lock_s=RETRY_LOCK_S
    )
    done.groups.append(_check_fields(top, checked))
    if checked.is_clean:
        context.output.line(f"{top.name}, group {top.group}: {_clean_in_words(checked)}")
        return 0
    context.output.error(f"{top.name}, group {top.group}", "check", _damage_in_words(top, checked))
    return 1


def _check_fields(top: TopTier, checked: Checked) -> dict[str, Any]:
    return {
        "tier": top.name,
        "group": top.group,
        "skipped": False,
        **asdict(checked.note),
        "versions_verified": checked.verified,
        "versions_lost": checked.lost,
        "broken_packs": list(checked.broken_packs),
    }


def _clean_in_words(checked: Checked) -> str:
    note = checked.note
    part = f"part {note.part} of {note.parts}, " if note.parts else ""
    return (
        f"no errors were found, {checked.verified} versions are verified; read {part}{note.packs_read} packs and "
        f"{note.files_read} files of the newest versions, {format_bytes(note.bytes_read)}"
    )


def _damage_in_words(top: TopTier, checked: Checked) -> str:
    note = checked.note
    option = " --read-data" if note.packs_read else ""
    if note.parts:
        option = f" --read-data-subset {note.part}/{note.parts}"
    lost = f"; {checked.lost} versions are not verified any more" if checked.lost else ""
    return (
        f"damage in repository {top.repository}: {note.errors} errors, the first: {note.problem}{lost}; "
        f"'cdr check{option}' names what is hit and how to mend it"
    )


# --- forget ---


def _forget(context: Context, config: TierConfig, top: TopTier, done: _Done) -> int:
    from cdr_plugin.retention.from_options import policy_from
    from cdr_plugin.top.care_state import CareState
    from cdr_plugin.top.forgetting import forget_group

    assert config.store is not None and config.store.forget is not None
    plan = config.store.forget
    if CareState.exists(top.state_folder):
        with CareState(top.state_folder) as care:
            last = care.last_forget()
            if last is not None and not care.owes_prune and _is_fresh(context, last.began_s, plan.every_s):
                done.groups.append({"tier": top.name, "group": top.group, "skipped": True, "versions_removed": 0})
                return 0
    forgotten = forget_group(
        top,
        policy_from(plan),
        prune=plan.prune,
        pin_for_s=config.store.pin_for_s,
        reporter=context.output,
        retry_lock_s=RETRY_LOCK_S,
    )
    done.groups.append(_forget_fields(top, forgotten))
    note = forgotten.note
    freed = f", {format_bytes(note.bytes_freed)} freed" if forgotten.pruned else ""
    context.output.line(f"{top.name}, group {top.group}: {note.removed} versions removed, {note.kept} kept{freed}")
    return 0


def _forget_fields(top: TopTier, forgotten: Forgotten) -> dict[str, Any]:
    note = forgotten.note
    return {
        "tier": top.name,
        "group": top.group,
        "skipped": False,
        "versions_removed": note.removed,
        "versions_kept": note.kept,
        "bytes_freed": note.bytes_freed,
        "pruned": forgotten.pruned is not None,
    }


def add_schedule_arguments(parser: argparse.ArgumentParser, key: str) -> None:
    """``key``: what in the configuration says what is done."""
    parser.add_argument("--scheduled", action="store_true", help=f"do what {key} of the configuration says")
    parser.add_argument("--now", action="store_true", help="with --scheduled: also when it is not convenient, or done")
