"""Putting an export back on a machine that has lost its tier, or on a new one.

Everything is checked before anything is written. Then a marker, all files whole and durable, ``identity.key`` last:
there is an identity only when all that belongs to it is there. A run that was killed leaves the marker, by which the
next one knows what lies there for its own and writes it again.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from cdr_plugin.errors import FormatError, RemoteError, UnknownVersionError, UserError
from cdr_plugin.files import remove_temporaries, storage_error, sync_folder, write_durably
from cdr_plugin.identity import register
from cdr_plugin.identity.export_file import Export, StateFacts
from cdr_plugin.identity.exporting import MAX_DEPTH, REGISTER_FILE, STATE_FILE
from cdr_plugin.identity.store import IDENTITY_FILE, RECOVERING_FILE, Identity, group_of_file, is_secret_file
from cdr_plugin.identity.succession import check_succession
from cdr_plugin.identity.wire import is_name

_PART = "[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_FOLDER = re.compile(rf"\.|{_PART}(/{_PART}){{0,{MAX_DEPTH - 1}}}").fullmatch
_SHAPE = re.compile(r"CREATE (TABLE|(UNIQUE )?INDEX) [^;]*", re.IGNORECASE).fullmatch


def recover(export: Export, identity_folder: Path, state_folder: Path) -> list[Path]:
    """Write it all; the files that were written. UserError when anything of it is there already, FormatError and
    UnknownVersionError when the export cannot be used: then nothing was changed."""
    plan = _plan(export, identity_folder, state_folder)
    marker = identity_folder / RECOVERING_FILE
    if not _is_complete(plan, marker):
        _refuse_existing(plan, marker)
        _write(plan, marker, _to_be_reminded(export, state_folder))
    _remove(marker)
    return [path for path, _ in plan]


def _to_be_reminded(export: Export, state_folder: Path) -> dict[Path, Mapping[str, bytes]]:
    """States that are there, made by 'cdr init', and were never enrolled."""
    places = {state_folder / name / STATE_FILE: state.facts for name, state in export.states.items()}
    return {path: facts for path, facts in places.items() if path.exists() and not _is_enrolled(path)}


def _is_enrolled(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db:
            return db.execute("SELECT 1 FROM meta WHERE key='ticket'").fetchone() is not None
    except sqlite3.Error as error:
        raise RemoteError(f"{path}: cannot be read: {error}") from None


def _remind(path: Path, facts: Mapping[str, bytes]) -> None:
    try:
        with closing(sqlite3.connect(path, timeout=60)) as db, db:
            db.execute("PRAGMA synchronous = FULL")
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", sorted(facts.items()))
    except sqlite3.Error as error:
        raise RemoteError(f"{path}: cannot be written: {error}") from None


def _write(
    plan: list[tuple[Path, bytes]], marker: Path, reminded: Mapping[Path, Mapping[str, bytes]]
) -> None:
    for folder in dict.fromkeys((marker.parent, *(path.parent for path, _ in plan))):
        _make_folder(folder)
        remove_temporaries(folder)
    write_durably(marker, b"")
    for path, facts in reminded.items():
        _remind(path, facts)
    for path, data in plan:
        write_durably(path, data)


def _is_complete(plan: list[tuple[Path, bytes]], marker: Path) -> bool:
    """Was the run before killed behind its last file? The tier may have been at work since, so nothing is written."""
    path, data = plan[-1]
    return marker.exists() and path.exists() and path.read_bytes() == data


def _plan(export: Export, identity_folder: Path, state_folder: Path) -> list[tuple[Path, bytes]]:
    """What is to be written where, in this order, all of it checked. The tier's own identity comes last. A state
    that is there knows more than the export, and stays."""
    databases = [(state_folder / name / STATE_FILE, _database(name, state)) for name, state in export.states.items()]
    states = [(path, data) for path, data in databases if not path.exists()]
    places = sorted({_folder_of(name) for name in export.files}, key=lambda folder: (folder == ".", folder))
    others: list[tuple[Path, bytes]] = []
    identities: list[tuple[Path, bytes]] = []
    for place in places:
        files = {_name_of(name): data for name, data in export.files.items() if _folder_of(name) == place}
        own = files.pop(IDENTITY_FILE, b"")
        _check_files(identity_folder / place, own, files)
        others += [(identity_folder / place / name, data) for name, data in sorted(files.items())]
        identities.append((identity_folder / place / IDENTITY_FILE, own))
    if not identities:
        raise FormatError("identity export: it holds no identity")
    return [*states, *others, *identities]


def _folder_of(name: str) -> str:
    """The folder of a file of the export; FormatError for one that could leave the tier's."""
    folder = name.rpartition("/")[0] or "."
    if _FOLDER(folder) is None:
        raise FormatError(f"identity export: {name[:80]!r} is no file of an identity")
    return folder


def _name_of(name: str) -> str:
    return name.rpartition("/")[2]


def _check_files(folder: Path, own: bytes, files: Mapping[str, bytes]) -> None:
    identity = Identity.parse(folder, _text(IDENTITY_FILE, own))
    if identity.predecessors:
        check_succession(identity.predecessors, identity.signing.public, identity.predecessors[0].verify_key)
    for name, data in files.items():
        _check_file(identity, name, data)


def _check_file(identity: Identity, name: str, data: bytes) -> None:
    group = group_of_file(name)
    if group is not None and is_name(group):
        if not identity.parse_sealing_keys(group, _text(name, data)):
            raise FormatError(f"identity export: {name} holds no key")
    elif name == REGISTER_FILE:
        _check_register(data)
    elif is_secret_file(name) and is_name(name):
        _text(name, data)
    else:
        raise UnknownVersionError(f"identity export: {name[:80]!r} is not known; made by a newer cdr, upgrade")


def _check_register(data: bytes) -> None:
    try:
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize(data)
            (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise FormatError(f"identity export: its register is damaged: {error}") from None
    if verdict != "ok":
        raise FormatError(f"identity export: its register is damaged: {verdict}")
    if version > register.SCHEMA_VERSION:
        raise UnknownVersionError(f"identity export: its register has version {version}; made by a newer cdr, upgrade")


def _database(name: str, state: StateFacts) -> bytes:
    """A state as it was when it was made, with the facts."""
    if _FOLDER(name) is None:
        raise FormatError(f"identity export: {name[:80]!r} is no folder of a state")
    if not all(map(_SHAPE, state.schema)):
        raise FormatError(f"identity export: the state in {name!r} has a shape that no state has")
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
            for statement in state.schema:
                db.execute(statement)
            db.executemany("INSERT INTO meta VALUES (?, ?)", sorted(state.facts.items()))
            db.execute(f"PRAGMA user_version={int(state.version)}")
            return bytes(db.serialize())
    except sqlite3.Error as error:
        raise FormatError(f"identity export: the state in {name!r} cannot be made: {error}") from None


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise FormatError(f"identity export: {name} is not text") from None


def _refuse_existing(plan: list[tuple[Path, bytes]], marker: Path) -> None:
    """A key that is there counts always, all else unless a run that was killed has left it."""
    *others, (identity, _) = plan
    if identity.exists():
        raise UserError(f"{identity}: there is an identity already; move it away yourself if it may go")
    if marker.exists():
        return
    for path, _ in others:
        for there in _with_logs(path):
            if there.exists():
                raise UserError(f"{there}: it is there already; move it away yourself if it may go")


def _with_logs(path: Path) -> Iterator[Path]:
    """A database would take the log of another one for its own."""
    yield path
    if path.suffix == ".db":
        yield from (path.with_name(f"{path.name}-{log}") for log in ("wal", "shm"))


def _make_folder(folder: Path) -> None:
    """It is there, for its owner alone, after a power cut too."""
    missing = [folder, *folder.parents]
    missing = [path for path in missing if not path.exists()]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for path in missing:
            sync_folder(path.parent)
    except OSError as error:
        raise storage_error(folder, error) from error


def _remove(marker: Path) -> None:
    marker.unlink(missing_ok=True)
    sync_folder(marker.parent)
