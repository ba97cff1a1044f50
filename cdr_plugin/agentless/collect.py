"""Making a version of an agentless folder, when it has changed and come to rest. See docs/agentless.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from cdr_plugin.agentless.look import REST_S, Look, look
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.states import VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import NotConvenientError, NotFoundError
from cdr_plugin.reporter import Reporter

SECOND_LOOK_S = 2.0
"""A copy that is under way grows within this time, on whatever line."""

_SEEN, _DEVICE, _WAS_EMPTY = "agentless_seen", "agentless_device", "agentless_empty"
"""Facts of the client's state: the digest of what the newest version holds, and where it was found."""


@dataclass(frozen=True, slots=True)
class Clock:
    """``now_s`` in seconds since 1970; ``wait`` for some seconds."""

    now_s: Callable[[], float] = time.time
    wait: Callable[[float], None] = time.sleep


def collect(
    client: ClientTier,
    folder: Path,
    options: BackupOptions,
    reporter: Reporter,
    *,
    at_once: bool = False,
    clock: Clock = Clock(),
) -> BackupResult | None:
    """A version of what is in ``folder`` now; None when nothing has changed since the newest one.

    NotConvenientError while files are being written, unless ``at_once``; NotFoundError, and no version, when the
    folder is gone. What is seen is noted after the version is captured: a crash between makes us look once more.
    """
    found = look(folder, clock.now_s())
    _check_mounted(client, folder, found)
    anew = _must_be_made_anew(client)
    if client.state.get(_SEEN) == _token(client, found) and not anew:
        return None
    if not at_once:
        _check_rest(folder, found, clock)
    result = backup(client, replace(options, skip_if_unchanged=not anew), reporter)
    if not result.archive.incomplete:  # else the next look tries again what could not be read
        _note(client, found)
    return result


def _token(client: ClientTier, found: Look) -> bytes:
    """What was struck from the known blobs since makes the same files worth another version."""
    return b"%d " % client.state.catalog_generation + found.digest


def _note(client: ClientTier, found: Look) -> None:
    empty = "yes" if not found.entries else ""
    client.state.put({_SEEN: _token(client, found), _DEVICE: str(found.device), _WAS_EMPTY: empty})


def _must_be_made_anew(client: ClientTier) -> bool:
    """The newest version was given up above: nobody else would make another one of a folder that rests."""
    newest = client.state.newest_version()
    return newest is not None and newest.state is VersionState.INCOMPLETE


def _check_mounted(client: ClientTier, folder: Path, found: Look) -> None:
    """Where a disk is not mounted its mount point is empty, and on another file system than before."""
    device, was_empty = client.state.get(_DEVICE), client.state.get(_WAS_EMPTY)
    if found.entries or was_empty or device is None or int(device) == found.device:
        return
    raise NotFoundError(
        f"agentless folder {folder}: empty, and on another file system than before; mount it, "
        "or put a file there if it is meant to be so"
    )


def _check_rest(folder: Path, found: Look, clock: Clock) -> None:
    if found.fresh:
        raise NotConvenientError(f"waiting for {folder} to rest: files in it are less than {REST_S:g} seconds old")
    if found.touched:
        clock.wait(SECOND_LOOK_S)
        if look(folder, clock.now_s()).digest != found.digest:
            raise NotConvenientError(f"waiting for {folder} to rest: files in it are being written")
