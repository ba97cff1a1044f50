"""Folders and storages of a tier: state, identity, inboxes, the storage above."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.errors import CdrError, FormatError, NotFoundError

from .finding import Finding, Severity, broken, from_error, note, warning

if TYPE_CHECKING:
    from cdr_plugin.config import TierConfig
    from cdr_plugin.contracts import Transport
    from cdr_plugin.plugins import Plugins

PROBE = "cdr-doctor-"
"""Names of the objects that are put for a moment, to see whether that is allowed."""
LITTLE_BYTES = 64 * 1024 * 1024
"""With less room nothing works: a segment has 8 MiB, and several are under way."""
SCARCE_BYTES = 5 * 1024**3
SCARCE_PART = 0.05
AHEAD_S = 300.0
"""A time by the same clock that is further ahead shows that the clock was put back."""


# --- folders of this machine ---


def identity(tier: TierConfig, groups: list[str]) -> Iterator[Finding]:
    """There, whole, and the owner's alone; with a key for each group."""
    from cdr_plugin.identity.exported import last_export
    from cdr_plugin.identity.store import Identity

    folder = tier.identity
    loaded = Identity.load(folder)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & 0o077:
        cause = f"mode {mode:04o} lets others look into the folder"
        yield warning(tier.name, f"identity {folder}", cause, f"run 'chmod 700 {folder}'")
    kept = last_export(tier.state, folder)
    if kept is not None and not kept.is_current:
        cause = "keys were made or replaced since it was exported"
        step = f"run 'cdr identity export FILE -T {tier.name}', and keep the file elsewhere"
        yield warning(tier.name, f"identity {folder}", cause, step)
    for group in groups:
        if not loaded.sealing_keys(group):
            yield broken(tier.name, f"identity {folder}", f"no key for group {group}", f"run 'cdr init -T {tier.name}'")


def state(tier: TierConfig) -> Iterator[Finding]:
    """The folder is ours, has room, and the clock is not behind what it remembers."""
    from cdr_plugin.pause import paused_since_s

    folder = tier.state
    about = f"state {folder}"
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        step = "run cdr as the user that the folder belongs to"
        yield broken(tier.name, about, "this user may not read and write in it", step)
        return
    yield from room(tier.name, about, folder, tier.spool.max_size)
    if paused_since_s(folder) is not None:
        yield warning(tier.name, "agent", "the tier is paused", f"'cdr resume -T {tier.name}' ends that")
    yield from _remembered(tier)


def _remembered(tier: TierConfig) -> Iterator[Finding]:
    from cdr_plugin.assembly import tier_state
    from cdr_plugin.convenience import RECEIVED, SENT, last_done_s

    if not (tier.state / "tier" / "state.db").exists():
        return
    found = tier_state(tier)
    try:
        done = [moment for what in (SENT, RECEIVED) if (moment := last_done_s(found, what)) is not None]
    finally:
        found.close()
    ahead_s = max(done, default=0.0) - time.time()
    if ahead_s > AHEAD_S:
        cause = f"it is {ahead_s / 3600:.1f} hours behind what the tier did last"
        yield warning(tier.name, "clock", cause, "set it, and let NTP keep it ('timedatectl set-ntp true')")


def room(tier: str, about: str, folder: Path, wanted: int | None = None) -> Iterator[Finding]:
    """Free space for what ``folder`` is to hold, ``wanted`` bytes if that is known."""
    usage = shutil.disk_usage(folder)
    shown = f"{usage.free / 2**30:.1f} GiB are free on its file system"
    if usage.free < LITTLE_BYTES:
        yield broken(tier, about, shown, "make room")
    elif usage.free < min(SCARCE_PART * usage.total, SCARCE_BYTES):
        yield warning(tier, about, shown, "make room before it is full")
    elif wanted is not None and wanted > usage.total:
        cause = f"spool.max_size is more than the whole file system has; {shown}"
        yield warning(tier, about, cause, "lower spool.max_size")


# --- storages ---


def storage(tier: TierConfig, url: str, plugins: Plugins, *, may_be_away: bool) -> Iterator[Finding]:
    """Reachable, listed, written to and read. ``may_be_away``: that it does not answer is no fault by itself."""
    try:
        opened = plugins.transport(url)
    except CdrError as error:
        severity = Severity.WARNING if may_be_away else Severity.BROKEN
        step = "mount or connect it; what waits is sent then" if may_be_away else "mount or connect it"
        yield from_error(tier.name, f"storage {url}", error, step, severity)
        return
    with opened:
        try:
            _probe(opened)
        except CdrError as error:
            yield from_error(tier.name, f"storage {url}", error, "let this user read, write and delete there")
            return
        free = opened.free_space()
        if free is not None and free < LITTLE_BYTES:
            yield broken(tier.name, f"storage {url}", f"{free} bytes are free", "make room there")


def _probe(opened: Transport) -> None:
    """Put, read and delete one small object."""
    name, data = f"{PROBE}{secrets.token_hex(8)}", b"put by 'cdr doctor', may be deleted\n"
    opened.put(name, data)
    try:
        if opened.get(name) != data:
            raise FormatError(f"{name}: what was put is not what is read; do not use this storage")
    finally:
        opened.delete(name)
    try:
        opened.stat(name)
    except NotFoundError:
        return
    raise FormatError(f"{name}: it is still there after it was deleted; let this user delete there")


def inbox(tier: TierConfig, url: str, plugins: Plugins) -> Iterator[Finding]:
    """What lies in an inbox that is none of ours, and how full it is."""
    from cdr_plugin.parcel.naming import NOTES, parse_name

    ours = (PROBE, f"{NOTES}/")
    foreign: list[str] = []
    total = 0
    with plugins.transport(url) as opened:
        for info in opened.list():
            total += info.size
            try:
                parse_name(info.name)
            except FormatError:
                if not info.name.startswith(ours):
                    foreign.append(info.name)
    if foreign:
        cause = f"{len(foreign)} objects that CDR did not put there, the first: {min(foreign)}"
        yield warning(tier.name, f"inbox {url}", cause, "move them away; CDR leaves them alone")
    limit = tier.receive.max_size if tier.receive else None
    if limit is not None and total > limit:
        cause = f"{total} bytes are more than receive.max_size"
        yield warning(tier.name, f"inbox {url}", cause, "see why 'cdr receive' does not take them")


def sources(tier: TierConfig) -> Iterator[Finding]:
    """What a client is to back up."""
    for path in tier.source.paths if tier.source else ():
        if not path.exists():
            yield warning(tier.name, f"source {path}", "it is not there", "mount it, or correct source.paths")
        elif not os.access(path, os.R_OK):
            yield warning(tier.name, f"source {path}", "this user may not read it", "run cdr as another user")


def jobs(tier: TierConfig) -> Iterator[Finding]:
    """What the agent noted of its jobs."""
    from cdr_plugin.agent.ledger import read_ledger

    for kind, record in sorted(read_ledger(tier.state).items(), key=lambda item: item[0].value):
        if record.failures:
            cause = f"failed {record.failures} times in a row: {record.error or 'for no known reason'}"
            found = broken if record.failures > 2 else note
            yield found(tier.name, f"job {kind.value}", cause, f"run 'cdr {kind.value} -T {tier.name}' and see")
