"""Passwords of a repository: each opens the same master key, by way of a key file of its own.

Adding: save, read back, open. Changing: add, then remove the old one. Whatever breaks off in
between, some password that worked before, or the new one, opens the repository.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdr_plugin.care import KeyInfo
from cdr_plugin.errors import CdrError, IntegrityError, NotFoundError, RemoteError, UserError
from cdr_plugin.reporter import Reporter
from cdr_restic.crypto import KeyMaterial
from cdr_restic.keys import Scrypt, add_key, load_key, measured_scrypt, parse_key
from cdr_restic.storage import FileKind, Storage

if TYPE_CHECKING:
    from cdr_restic.repository import Held


def list_keys(storage: Storage, current: str, reporter: Reporter) -> list[KeyInfo]:
    """All keys by age. Those that cannot be read are reported and left out, as in restic."""
    found = []
    for name in storage.list(FileKind.KEYS):
        try:
            key = parse_key(load_key(storage, name))
        except NotFoundError:
            continue
        except (IntegrityError, RemoteError) as error:
            reporter.error(storage.describe(FileKind.KEYS, name), "list", error)
            continue
        found.append(KeyInfo(name, name == current, key.username, key.hostname, key.created))
    return sorted(found, key=lambda key: (key.created, key.id))


def add_password(
    storage: Storage,
    master: KeyMaterial,
    password: str,
    user: str = "",
    host: str = "",
    scrypt: Scrypt | None = None,
) -> str:
    """A further key; its ID. ``user`` and ``host`` default to who adds it, ``scrypt`` to what costs
    this machine half a second. UserError for an empty password."""
    return add_key(storage, master, password, scrypt or measured_scrypt(), user, host)


def remove_key(held: Held, prefix: str) -> None:
    """Remove the key whose ID begins with ``prefix``; UserError when that is none, several, or the
    one in use."""
    storage = held.files.storage
    name = _chosen(storage, prefix)
    if name == held.key_id:
        raise UserError(
            f"key {name[:8]} is the one in use; give the password of another key, or change it with 'cdr key passwd'"
        )
    if not storage.exists(FileKind.KEYS, held.key_id):
        # Two processes that each remove the other's key must not leave none.
        raise UserError(
            f"key {held.key_id[:8]}, which opened this repository, was removed meanwhile; "
            "nothing is removed, open the repository again"
        )
    held.lock.confirm()
    storage.remove(FileKind.KEYS, name)


def change_password(held: Held, password: str, scrypt: Scrypt | None = None) -> str:
    """A new key, tried, in place of the one in use; its ID. RemoteError when the old one stays: then
    both passwords open the repository."""
    storage = held.files.storage
    name = add_password(storage, held.key, password, scrypt=scrypt)
    try:
        held.lock.confirm()
        storage.remove(FileKind.KEYS, held.key_id)
    except CdrError as error:
        raise RemoteError(
            f"the new password is valid, and the old one still is: {error}; "
            f"remove it with 'cdr key remove {held.key_id[:8]}' and the new password"
        ) from None
    return name


def _chosen(storage: Storage, prefix: str) -> str:
    found = [name for name in storage.list(FileKind.KEYS) if name.startswith(prefix)]
    if len(found) == 1 and prefix:
        return found[0]
    problem = "there is no such key" if not found else "several keys begin with it"
    raise UserError(f"key {prefix!r}: {problem}; see 'cdr key list'")
