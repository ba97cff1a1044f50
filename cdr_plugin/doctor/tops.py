"""A top tier, group by group: its repository, and the clients that it knows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cdr_plugin.errors import FormatError, LockedError
from cdr_plugin.identity.register import ClientState
from cdr_plugin.model.times import parse_time
from cdr_plugin.top.state import VersionRow, VersionState

from .clients import SILENT_S, STUCK_S
from .finding import Finding, broken, from_error, note, warning
from .places import room

if TYPE_CHECKING:
    from cdr_plugin.top.tier import TopTier

_REPOSITORY = "repository"


def has_state(top: TopTier) -> bool:
    """Asking for it would make it."""
    return (top.state_folder / "state.db").exists()


def repository(top: TopTier) -> Iterator[Finding]:
    """Opened with its password, the one that was made or adopted, and who holds it."""
    about = f"repository {top.repository}"
    with closing(top.open_repository()) as opened:
        known = top.state.get(_REPOSITORY) if has_state(top) else None
        if known is not None and known != opened.id.encode():
            cause = f"it is {opened.id[:10]}, and was {known.decode()[:10]}: another repository is in its place"
            yield broken(top.name, about, cause, f"put the old one back, or adopt this one: 'cdr init -T {top.name}'")
        for lock in opened.care().locks():
            cause, _, step = lock.text.rpartition("; ")
            if lock.stale:
                yield warning(top.name, about, cause, step)
            elif lock.exclusive:
                yield from_error(top.name, about, LockedError(lock.text), step)
            else:
                yield note(top.name, about, cause)
    folder = top.plugins.repository_format(top.format).local_folder(top.repository)
    if folder is not None:
        yield from room(top.name, about, folder)


def clients(top: TopTier, now_s: float | None = None) -> Iterator[Finding]:
    """Of each client: versions that cannot be committed, and why; who has gone silent."""
    now_s = time.time() if now_s is None else now_s
    if not (top.identity_folder / "register.db").exists():
        step = "'cdr identity recover' from an export, or put a copy of the folder back (docs/operating.md)"
        yield broken(top.name, f"group {top.group}", "the register of its clients is gone", step)
        return
    if not has_state(top):
        cause = "its state is gone; it is made anew from the repository"
        yield warning(top.name, f"group {top.group}", cause, f"run 'cdr receive -T {top.name}'")
        return
    known = top.register.makers(top.group)
    if not known:
        step = f"'cdr ticket --group {top.group} -T {top.name}' lets one enrol"
        yield note(top.name, f"group {top.group}", "it has no client yet", step)
    for one in known:
        about = f"client {one.name} of group {top.group}"
        if one.state is not ClientState.APPROVED:
            continue
        rows = top.state.client(one.fingerprint).versions()
        yield from _stuck(top.name, about, rows, now_s)
        newest = max((_seconds(row.time, now_s) for row in rows), default=float(one.enrolled_s))
        if now_s - newest > SILENT_S:
            cause = f"nothing new for {(now_s - newest) / 86400:.0f} days"
            yield warning(top.name, about, cause, "run 'cdr doctor' on that machine, or revoke the client")
    yield from _quarantine(top)


def _stuck(tier: str, about: str, rows: list[VersionRow], now_s: float) -> Iterator[Finding]:
    waiting = [row for row in rows if row.state is VersionState.PENDING and now_s - _seconds(row.time, now_s) > STUCK_S]
    if waiting:
        first = min(waiting, key=lambda row: row.number)
        cause = f"version {first.number} waits: {first.reason or 'not all of it has arrived'}"
        step = "let that client run 'cdr send', and the tiers between 'cdr receive' and 'cdr send'"
        yield warning(tier, about, cause, step)


def _quarantine(top: TopTier) -> Iterator[Finding]:
    folder: Path = top.state_folder / "quarantine"
    count = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
    if count:
        cause = f"{count} objects could not be used and are kept for a look"
        step = "'cdr quarantine list' names them; their clients send them again"
        yield warning(top.name, f"quarantine {folder}", cause, step)


def _seconds(moment: str, otherwise: float) -> float:
    try:
        return float(parse_time(moment)[0])
    except FormatError:
        return otherwise
