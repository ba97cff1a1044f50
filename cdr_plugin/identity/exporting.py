"""Collecting what an export holds, from a tier that may be at work.

Whatever role a tier has, these are all of it: the files of its identity (keys of now and before, and of a tier that
receives the register), and of each of its states the few facts that no other tier can tell it again.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

from cdr_plugin import __version__
from cdr_plugin.errors import RemoteError, UserError
from cdr_plugin.files import write_durably
from cdr_plugin.identity.export_file import Export, StateFacts, is_export, seal_export
from cdr_plugin.identity.exported import note_export
from cdr_plugin.identity.store import IDENTITY_FILE, Identity

REGISTER_FILE = "register.db"
STATE_FILE = "state.db"
MAX_DEPTH = 3
"""Folders between that of a tier and one of its states or identities."""

ESSENTIAL = (
    "ticket",
    "enrolment",
    "group",
    "timezone",
    "tier_signing",
    "tier_sealing",
    "tier_keys_serial",
    "tier_former",
    "top_signing",
    "top_keys_serial",
    "top_former",
)
"""Facts of a state: who is above, and what makes trees equal. What was sent, received and stored is told anew."""


def collect(tier: str, role: str, identity_folder: Path, state_folder: Path) -> Export:
    """NotEnrolledError when there is no identity; RemoteError when a database cannot be read."""
    files = dict(_files(identity_folder))
    register = identity_folder / REGISTER_FILE
    if register.exists():
        files[REGISTER_FILE] = _copy_of(register)
    states = dict(_states(state_folder))
    return Export(tier, role, int(time.time()), f"cdr {__version__}", files, states)


def write_export(export: Export, path: Path, passphrase: str, state_folder: Path, identity_folder: Path) -> None:
    """Durable under ``path`` in one step, for its owner alone; noted in the tier's state behind it. UserError where
    the file is something else."""
    try:
        with path.open("rb") as file:
            if not is_export(file.read(64)):
                raise UserError(f"{path}: there is another file already, which is no export; choose another name")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    write_durably(path, seal_export(export, passphrase))
    note_export(state_folder, identity_folder, export.made_s)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Key files by their path below ``folder``: the tier's own, and those of clients that it runs for devices."""
    found = sorted(path.parent for path in folder.rglob(IDENTITY_FILE))
    if not found:
        Identity.load(folder)  # which says so
    for place in found:
        for name, data in Identity.load(place).files().items():
            yield (place / name).relative_to(folder).as_posix(), data


def _copy_of(path: Path) -> bytes:
    """A database as of one moment, also while others write to it."""
    try:
        with closing(sqlite3.connect(path, timeout=60)) as source, closing(sqlite3.connect(":memory:")) as copy:
            source.backup(copy)
            data = bytearray(copy.serialize())
    except sqlite3.Error as error:
        raise RemoteError(f"{path}: cannot be copied: {error}") from None
    data[18:20] = b"\1\1"  # without a log beside it, which the flag of the original says there is
    return bytes(data)


def _states(folder: Path) -> Iterator[tuple[str, StateFacts]]:
    """Of the folder itself, and of those in it: a tier has a state for each group, for each storage, for each client
    that it runs for a device."""
    found = (folder.glob(f"{'*/' * depth}{STATE_FILE}") for depth in range(MAX_DEPTH + 1))
    for path in sorted(chain.from_iterable(found)):
        if path.is_file():
            facts = _facts_of(path)
            if facts.facts:
                yield path.parent.relative_to(folder).as_posix(), facts


def _facts_of(path: Path) -> StateFacts:
    marks = ",".join("?" * len(ESSENTIAL))
    try:
        with closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as db:
            db.execute("BEGIN")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            rows = db.execute(f"SELECT key, value FROM meta WHERE key IN ({marks}) ORDER BY key", ESSENTIAL)
            facts = {key: bytes(value) for key, value in rows}
            shape = db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
            return StateFacts(version=version, schema=[sql for (sql,) in shape], facts=facts)
    except sqlite3.Error as error:
        raise RemoteError(f"{path}: cannot be read: {error}") from None
