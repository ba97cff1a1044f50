"""The register: whom a receiving tier knows, and the tickets that it has issued.

An SQLite file in the tier's state. Secrets of tickets are kept as hashes only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path
from threading import Lock

from cdr_plugin.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    NotEnrolledError,
    RemoteError,
    StorageFullError,
    UserError,
)
from cdr_plugin.identity.keys import KemSuite, SealingPublicKey, VerifyKey, short
from cdr_plugin.identity.strangers import Stranger, Strangers, forget_stranger
from cdr_plugin.identity.successor import Successor
from cdr_plugin.identity.ticket import Enrolment, ticket_id
from cdr_plugin.identity.wire import check_group, frame, is_name

_SCHEMAS = (
    """
CREATE TABLE tickets (
    id BLOB PRIMARY KEY, secret_hash BLOB NOT NULL, grp TEXT NOT NULL,
    uses_left INTEGER NOT NULL, issued_s INTEGER NOT NULL, expires_s INTEGER NOT NULL
) STRICT;
CREATE TABLE clients (
    fingerprint BLOB NOT NULL, grp TEXT NOT NULL, name TEXT NOT NULL, alias TEXT NOT NULL,
    verify_key BLOB NOT NULL, suite INTEGER NOT NULL, sealing_key BLOB NOT NULL,
    facts TEXT NOT NULL, state TEXT NOT NULL, ticket BLOB NOT NULL, enrolled_s INTEGER NOT NULL,
    PRIMARY KEY (fingerprint, grp), UNIQUE (grp, name)
) STRICT;
CREATE INDEX clients_by_alias ON clients (grp, alias);
""",
    """
ALTER TABLE tickets ADD COLUMN kind TEXT NOT NULL DEFAULT 'client';
ALTER TABLE clients ADD COLUMN kind TEXT NOT NULL DEFAULT 'client';
ALTER TABLE clients ADD COLUMN via BLOB NOT NULL DEFAULT x'';
""",
    """
ALTER TABLE clients ADD COLUMN moved_to TEXT NOT NULL DEFAULT '';
CREATE UNIQUE INDEX clients_by_key ON clients (grp, verify_key);
CREATE TABLE strangers (
    grp TEXT NOT NULL, folder TEXT NOT NULL, verify_key BLOB NOT NULL, header BLOB NOT NULL, why TEXT NOT NULL,
    name TEXT NOT NULL, suite INTEGER NOT NULL, sealing_key BLOB NOT NULL, facts TEXT NOT NULL, ticket BLOB NOT NULL,
    first_s INTEGER NOT NULL, segments INTEGER NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (grp, folder)
) STRICT;
CREATE TABLE policies (
    grp TEXT PRIMARY KEY, serial INTEGER NOT NULL, text TEXT NOT NULL, published_s INTEGER NOT NULL
) STRICT;
""",
)
"""One behind the other: what each version of the register adds to the one before."""
SCHEMA_VERSION = len(_SCHEMAS)
RESERVED_NAMES = frozenset({"cdr-pin"})
"""Host names of snapshots that tiers write for themselves."""

_COLUMNS = (
    "grp, name, alias, verify_key, suite, sealing_key, facts, state, enrolled_s, kind, via, fingerprint, moved_to"
)


class ClientState(StrEnum):
    """Whether a client's segments are taken."""

    APPROVED = "approved"
    REVOKED = "revoked"
    MOVED = "moved"


class SenderKind(StrEnum):
    """What somebody who sends is: a client, or a tier that reduces and speaks for the clients below it.
    The ticket decides, never who redeems it."""

    CLIENT = "client"
    TIER = "tier"


@dataclass(frozen=True, slots=True)
class Client:
    """One client of one group, or a tier that sends what its clients delivered. ``alias`` is the host name
    that its snapshots carry instead of ``name``; both are unique in the group, across both. ``enrolled_s``:
    seconds since 1970. ``via``: fingerprint of the tier that introduced it and speaks for it, empty for who
    enrolled here."""

    group: str
    name: str
    alias: str
    key: VerifyKey
    sealing: SealingPublicKey
    facts: Mapping[str, str]
    state: ClientState
    enrolled_s: int
    kind: SenderKind = SenderKind.CLIENT
    via: bytes = b""
    first_fingerprint: bytes = b""
    """Of the key that it had first, where it has another one now; versions and possession go by it."""
    moved_to: str = ""
    """The group that it has been moved to; its versions in this one stay its own."""

    @property
    def hostname(self) -> str:
        return self.alias or self.name

    @property
    def fingerprint(self) -> bytes:
        """Its ID: stays when its key is replaced."""
        return self.first_fingerprint or self.key.fingerprint


@dataclass(frozen=True, slots=True)
class Published:
    """A group's central policy: TOML, and when it was published, in seconds since 1970."""

    serial: int
    text: str
    published_s: int


@dataclass(frozen=True, slots=True)
class IssuedTicket:
    """A ticket that was issued here: how many may still enrol with it, and until when (seconds since 1970)."""

    id: bytes
    group: str
    uses_left: int
    issued_s: int
    expires_s: int
    kind: SenderKind


class Register:
    """May be used by several threads; every change is durable when its method returns."""

    def __init__(self, path: Path) -> None:
        """Open the register at ``path``, making it when it is not there."""
        self._lock = Lock()
        self._path = path
        self._listed: Sequence[Client] = ()
        self._listed_at: tuple[int, ...] = ()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=60)
            path.chmod(0o600)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._make_tables()
            self.strangers = Strangers(self._reading, self._changing)
        except (sqlite3.Error, RemoteError, OSError) as error:
            raise ConfigError(f"register {path}: cannot be opened: {error}") from None

    def _make_tables(self) -> None:
        with self._changing() as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version > len(_SCHEMAS):
                raise ConfigError(f"register {self._path}: made by a newer cdr (version {version}); upgrade")
            for schema in _SCHEMAS[version:]:
                for statement in schema.strip().split(";")[:-1]:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {len(_SCHEMAS)}")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._db
            except sqlite3.Error as error:
                kind = StorageFullError if "full" in str(error) else RemoteError
                raise kind(f"register {self._path}: {error}") from None

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it happens, durably, or none."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._db.close()

    # --- tickets

    def add_ticket(
        self,
        secret: bytes,
        *,
        group: str,
        uses: int,
        issued_s: int,
        expires_s: int,
        kind: SenderKind = SenderKind.CLIENT,
    ) -> bytes:
        """Remember a ticket so that it can be redeemed; its ID."""
        id_ = ticket_id(secret)
        with self._changing() as db:
            db.execute(
                "INSERT INTO tickets (id, secret_hash, grp, uses_left, issued_s, expires_s, kind) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (id_, _hash(secret), check_group(group), uses, issued_s, expires_s, kind),
            )
        return id_

    def tickets(self, group: str | None = None) -> list[IssuedTicket]:
        """All that were issued, of one group or all, the newest last."""
        sql = "SELECT id, grp, uses_left, issued_s, expires_s, kind FROM tickets ORDER BY issued_s, id"
        with self._reading() as db:
            rows = [
                IssuedTicket(id_, group_, uses, issued_s, expires_s, SenderKind(kind))
                for id_, group_, uses, issued_s, expires_s, kind in db.execute(sql)
            ]
        return [row for row in rows if group in (None, row.group)]

    def withdraw_ticket(self, id_: bytes) -> None:
        """Nobody new can enrol with it; who has stays enrolled. NotEnrolledError when unknown."""
        with self._changing() as db:
            if db.execute("UPDATE tickets SET uses_left = 0 WHERE id = ?", (id_,)).rowcount == 0:
                raise NotEnrolledError(f"ticket {id_.hex()}: not known here")

    def redeem(self, enrolment: Enrolment, *, now_s: float) -> Client:
        """Enrol a client. The same client with the same ticket gets the same answer again, and uses
        the ticket only once, also after it has run out.

        AuthenticationError when the ticket is unknown, of another group, expired or used up or
        the client is revoked; UserError when its name is taken.
        """
        with self._changing() as db:
            known = _find_key(db, enrolment.client, enrolment.group)
            if known is not None:
                if known.state is not ClientState.APPROVED:
                    raise AuthenticationError(f"client {known.name} of group {known.group}: {known.state}")
                if _ticket_used_by(db, known) == ticket_id(enrolment.secret):
                    return known
            ticket = self._ticket_of(db, enrolment)
            self._use_ticket(db, ticket, now_s)
            self._store_client(db, enrolment, ticket, int(now_s), known)
            return _get(db, enrolment.client.fingerprint, enrolment.group)

    def _ticket_of(self, db: sqlite3.Connection, enrolment: Enrolment) -> bytes:
        id_ = ticket_id(enrolment.secret)
        row = db.execute("SELECT secret_hash, grp FROM tickets WHERE id = ?", (id_,)).fetchone()
        good = compare_digest(row[0] if row else bytes(32), _hash(enrolment.secret))
        if row is None or not good or row[1] != enrolment.group:
            raise AuthenticationError(f"enrolment of {enrolment.name}: the ticket is not one of ours")
        return id_

    def _use_ticket(self, db: sqlite3.Connection, id_: bytes, now_s: float) -> None:
        uses_left, expires_s = db.execute("SELECT uses_left, expires_s FROM tickets WHERE id = ?", (id_,)).fetchone()
        if now_s > expires_s:
            raise AuthenticationError(f"ticket {id_.hex()}: expired; issue a new one with 'cdr ticket'")
        if uses_left < 1:
            raise AuthenticationError(f"ticket {id_.hex()}: used up; issue a new one with 'cdr ticket'")
        db.execute("UPDATE tickets SET uses_left = uses_left - 1 WHERE id = ?", (id_,))

    def _store_client(
        self, db: sqlite3.Connection, enrolment: Enrolment, ticket: bytes, now_s: int, known: Client | None
    ) -> None:
        group = enrolment.group
        fingerprint = known.fingerprint if known else enrolment.client.fingerprint
        _check_free(db, group, enrolment.name, fingerprint)
        (kind,) = db.execute("SELECT kind FROM tickets WHERE id = ?", (ticket,)).fetchone()
        client = Client(
            group,
            enrolment.name,
            known.alias if known else "",
            enrolment.client,
            enrolment.sealing,
            enrolment.facts,
            ClientState.APPROVED,
            now_s,
            SenderKind(kind),
            first_fingerprint=known.first_fingerprint if known else b"",
        )
        _store(db, client, ticket)

    def introduce(self, client: Client) -> Client:
        """Take in what a tier says of a client below it, ``client.via``; the entry, whose name is another where
        this one is taken, and whose state and alias are the operator's.

        AuthenticationError when the client enrolled here, came through another tier, or is a tier of ours.
        """
        with self._changing() as db:
            known = _find_key(db, client.key, client.group)
            if known is None:
                found = replace(client, name=_free_name(db, client))
            elif known.via != client.via or known.key != client.key:
                raise AuthenticationError(
                    f"client {known.name}: introduced by a tier through which it did not come; see 'cdr clients route'"
                )
            else:
                found = replace(known, sealing=client.sealing, facts=client.facts)
            if found != known:
                _store(db, found, b"")
        return found

    # --- clients

    def client(self, fingerprint: bytes, group: str) -> Client:
        """NotEnrolledError when there is none."""
        with self._reading() as db:
            return _get(db, fingerprint, group)

    def clients(self, group: str | None = None) -> list[Client]:
        """All clients and tiers, of one group or all, by group and name."""
        with self._reading() as db:
            # A pass asks half a dozen times. The first part changes with what others commit, the second with our own.
            now = (*db.execute("PRAGMA data_version").fetchone(), db.total_changes)
            if now != self._listed_at:
                rows = db.execute(f"SELECT {_COLUMNS} FROM clients ORDER BY grp, name")
                self._listed, self._listed_at = [_client(row) for row in rows], now
            return [client for client in self._listed if group in (None, client.group)]

    def makers(self, group: str) -> list[Client]:
        """Who makes versions: the clients of a group without the tiers that speak for them."""
        return [client for client in self.clients(group) if client.kind is SenderKind.CLIENT]

    def find(self, key: VerifyKey, group: str) -> Client | None:
        """The client behind ``key``, whatever its state."""
        with self._reading() as db:
            return _find_key(db, key, group)

    def accept(self, key: VerifyKey, group: str) -> Client:
        """The approved client behind ``key``; AuthenticationError when it is unknown or revoked."""
        with self._reading() as db:
            client = _find_key(db, key, group)
        if client is None:
            raise AuthenticationError(
                f"sender {short(key.fingerprint)} is not known in group {group}; see 'cdr clients'"
            )
        if client.state is not ClientState.APPROVED:
            raise AuthenticationError(f"client {client.name} of group {group}: {client.state}; see 'cdr clients'")
        return client

    def below(self, fingerprint: bytes, tier: Client) -> Client:
        """The client for which ``tier`` speaks; AuthenticationError when it introduced no such one."""
        with self._reading() as db:
            client = _find(db, fingerprint, tier.group)
        if client is None or client.via != tier.fingerprint:
            raise AuthenticationError(f"client {short(fingerprint)} was not introduced by tier {tier.name}")
        return client

    def set_state(self, fingerprint: bytes, group: str, state: ClientState) -> None:
        """Revoke a client or approve it again; NotEnrolledError when unknown."""
        self._update(fingerprint, group, "state", state)

    def set_alias(self, fingerprint: bytes, group: str, alias: str) -> None:
        """The host name for the client's snapshots; empty: its name. UserError when it is taken."""
        if alias and not is_name(alias):
            raise UserError(f"{alias[:80]!r} is no client name: use 1 to 64 of A-Z a-z 0-9 . _ -")
        self._update(fingerprint, group, "alias", alias)

    def admit(self, stranger: Stranger, name: str, *, now_s: int) -> Client:
        """Approve an unknown sender by the operator's word. UserError when the name is taken, or when its request to
        be known, which has the key that answers are sealed to, has not come."""
        if not is_name(name):
            raise UserError(f"{name[:80]!r} is no client name: use 1 to 64 of A-Z a-z 0-9 . _ -")
        client = Client(
            stranger.group, name, "", stranger.key, stranger.sealing_key(), stranger.facts, ClientState.APPROVED, now_s
        )
        with self._changing() as db:
            _check_free(db, client.group, name, client.fingerprint)
            _store(db, client, stranger.ticket)
            forget_stranger(db, stranger)
        return client

    def move(self, fingerprint: bytes, group: str, target: str) -> None:
        """Nothing more is taken from the client in ``group``; its entry there says where it has gone."""
        with self._changing() as db:
            client = _get(db, fingerprint, group)
            _check_free(db, check_group(target), client.name, b"")
            db.execute(
                "UPDATE clients SET state = ?, moved_to = ? WHERE fingerprint = ? AND grp = ?",
                (ClientState.MOVED, target, fingerprint, group),
            )

    def route(self, fingerprint: bytes, group: str, through: bytes) -> Client:
        """The client sends through the tier of this fingerprint from now on, or to us, if it is empty. Its numbering
        and possession go on. UserError when there is no such tier."""
        with self._changing() as db:
            client = _get(db, fingerprint, group)
            if client.kind is not SenderKind.CLIENT:
                raise UserError(f"{client.name} is a tier; only clients are routed")
            tier = _find(db, through, group) if through else None
            if through and (tier is None or tier.kind is not SenderKind.TIER):
                raise UserError(f"{short(through)} is no tier of group {group}; see 'cdr clients'")
            db.execute("UPDATE clients SET via = ? WHERE fingerprint = ? AND grp = ?", (through, fingerprint, group))
            return _get(db, fingerprint, group)

    def rekey(self, fingerprint: bytes, group: str, stranger: Stranger) -> Client:
        """The client has other keys from now on, those of an unknown sender; numbering and possession go on, what the
        old key signs is taken no more. The client again."""
        sealing = stranger.sealing_key()
        with self._changing() as db:
            _replace_keys(db, _get(db, fingerprint, group), stranger.key, sealing)
            facts = json.dumps(dict(stranger.facts), sort_keys=True)
            db.execute(
                "UPDATE clients SET facts = ?, ticket = ? WHERE fingerprint = ? AND grp = ?",
                (facts, stranger.ticket, fingerprint, group),
            )
            forget_stranger(db, stranger)
            return _get(db, fingerprint, group)

    def succeed(self, successor: Successor) -> Client:
        """The client whose key named a successor has that one from now on; again the same answer. AuthenticationError
        when no approved client's key is among the predecessors."""
        group = successor.group
        with self._changing() as db:
            client = _find_key(db, successor.key, group)
            if client is None:
                known = (_find_key(db, one.verify_key, group) for one in successor.predecessors)
                client = next((found for found in known if found is not None), None)
            if client is None:
                raise AuthenticationError(
                    f"successor {short(successor.key.fingerprint)}: no key before it is known in group {group}"
                )
            if client.state is not ClientState.APPROVED:
                raise AuthenticationError(f"client {client.name} of group {group}: {client.state}")
            successor.check(client.key)
            if (client.key, client.sealing) != (successor.key, successor.sealing):
                _replace_keys(db, client, successor.key, successor.sealing)
            return _get(db, client.fingerprint, group)

    # --- central policies

    def policy(self, group: str) -> Published | None:
        """What was published last for a group."""
        with self._reading() as db:
            row = db.execute("SELECT serial, text, published_s FROM policies WHERE grp = ?", (group,)).fetchone()
        return None if row is None else Published(*row)

    def set_policy(self, group: str, policy: Published) -> None:
        """In place of the one before, which must have a lower serial."""
        with self._changing() as db:
            db.execute(
                "INSERT OR REPLACE INTO policies VALUES (?, ?, ?, ?)",
                (check_group(group), policy.serial, policy.text, policy.published_s),
            )

    def _update(self, fingerprint: bytes, group: str, column: str, value: str) -> None:
        with self._changing() as db:
            _get(db, fingerprint, group)
            if column == "alias" and value:
                _check_free(db, group, value, fingerprint)
            back = ", moved_to = ''" if column == "state" else ""
            statement = f"UPDATE clients SET {column} = ?{back} WHERE fingerprint = ? AND grp = ?"
            db.execute(statement, (value, fingerprint, group))


def _hash(secret: bytes) -> bytes:
    return sha256(frame(b"cdr/1 ticket secret", secret)).digest()


def _store(db: sqlite3.Connection, client: Client, ticket: bytes) -> None:
    """AuthenticationError for a key that has been replaced: whoever has it now is not the client any more."""
    before = _find(db, client.fingerprint, client.group)
    if before is not None and before.key != client.key:
        raise AuthenticationError(f"client {before.name}: this key of it was replaced; see 'cdr clients'")
    db.execute(
        "INSERT OR REPLACE INTO clients (fingerprint, grp, name, alias, verify_key, suite, sealing_key, facts, state, "
        "ticket, enrolled_s, kind, via, moved_to) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            client.fingerprint,
            client.group,
            client.name,
            client.alias,
            client.key.raw,
            int(client.sealing.suite),
            client.sealing.raw,
            json.dumps(dict(client.facts), sort_keys=True),
            client.state,
            ticket,
            client.enrolled_s,
            client.kind,
            client.via,
            client.moved_to,
        ),
    )


def _replace_keys(db: sqlite3.Connection, client: Client, key: VerifyKey, sealing: SealingPublicKey) -> None:
    if client.via:
        raise UserError(f"client {client.name}: it came through another tier; give it new keys there")
    if key != client.key and (_find_key(db, key, client.group) or _find(db, key.fingerprint, client.group)):
        raise UserError(f"key {short(key.fingerprint)} is, or was, one of a client of group {client.group}")
    db.execute(
        "UPDATE clients SET verify_key = ?, suite = ?, sealing_key = ? WHERE fingerprint = ? AND grp = ?",
        (key.raw, int(sealing.suite), sealing.raw, client.fingerprint, client.group),
    )


def _free_name(db: sqlite3.Connection, client: Client) -> str:
    """The client's own name if nobody has it here: two branches may each have a client of that name."""
    suffixes = ("", *(f"-{client.fingerprint.hex()[:digits]}" for digits in (8, 32)))
    names = [client.name[: 64 - len(suffix)] + suffix for suffix in suffixes]
    return next(name for name in names if _is_free(db, client.group, name, client.fingerprint))


def _is_free(db: sqlite3.Connection, group: str, name: str, fingerprint: bytes) -> bool:
    try:
        _check_free(db, group, name, fingerprint)
    except UserError:
        return False
    return True


def _check_free(db: sqlite3.Connection, group: str, name: str, fingerprint: bytes) -> None:
    if name.lower() in RESERVED_NAMES:
        raise UserError(f"the name {name!r} is the top tier's own; enrol under another name")
    row = db.execute(
        "SELECT fingerprint FROM clients WHERE grp = ? AND (name = ? OR alias = ?) AND fingerprint <> ?",
        (group, name, name, fingerprint),
    ).fetchone()
    if row is not None:
        raise UserError(
            f"the name {name!r} is taken in group {group} by client {short(row[0])}; enrol under another name"
        )


def _find(db: sqlite3.Connection, fingerprint: bytes, group: str) -> Client | None:
    row = db.execute(
        f"SELECT {_COLUMNS} FROM clients WHERE fingerprint = ? AND grp = ?", (fingerprint, group)
    ).fetchone()
    return None if row is None else _client(row)


def _find_key(db: sqlite3.Connection, key: VerifyKey, group: str) -> Client | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM clients WHERE verify_key = ? AND grp = ?", (key.raw, group)).fetchone()
    return None if row is None else _client(row)


def _get(db: sqlite3.Connection, fingerprint: bytes, group: str) -> Client:
    client = _find(db, fingerprint, group)
    if client is None:
        raise NotEnrolledError(f"client {short(fingerprint)} is not in group {group}; see 'cdr clients'")
    return client


def _ticket_used_by(db: sqlite3.Connection, client: Client) -> bytes:
    row = db.execute(
        "SELECT ticket FROM clients WHERE fingerprint = ? AND grp = ?", (client.fingerprint, client.group)
    ).fetchone()
    return bytes(row[0])


def _client(row: tuple[str, str, str, bytes, int, bytes, str, str, int, str, bytes, bytes, str]) -> Client:
    group, name, alias, key, suite, sealing, facts, state, enrolled_s, kind, via, first, moved_to = row
    try:
        sealing_key, verify_key = SealingPublicKey(KemSuite(suite), sealing), VerifyKey(key)
        first = b"" if first == verify_key.fingerprint else first
        return Client(
            group, name, alias, verify_key, sealing_key, json.loads(facts), ClientState(state), enrolled_s,
            SenderKind(kind), via, first, moved_to,
        )  # fmt: skip
    except ValueError as error:
        raise FormatError(f"register: the entry of {name} in group {group} is damaged: {error}") from None
