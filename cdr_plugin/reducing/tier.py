"""One group of an intermediate tier that reduces.

Below it is what a top tier is to its clients: it knows them, verifies what they deliver, keeps it in a repository
(its *retained* versions, which serve restores and answers to *missing*), and answers. Above it is a sender. Nothing
that it keeps counts as committed: what its clients hear of their versions is what the tiers above say.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from cdr_plugin.contracts import Reducer, Repository
from cdr_plugin.errors import FormatError, NoRepositoryError, NotEnrolledError
from cdr_plugin.files import write_durably
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.identity.ticket import Ticket, TierKey
from cdr_plugin.parcel.receipt import VersionState as Told
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.top.onward import Onward
from cdr_plugin.top.state import ClientRows, VersionRow, VersionState
from cdr_plugin.top.tier import TopTier

if TYPE_CHECKING:
    from cdr_plugin.reporter import Reporter
    from cdr_plugin.top.inbox import Inbox
    from cdr_plugin.top.result import ReceiveResult
    from cdr_plugin.top.subject import Pass

_STATES: Mapping[str, VersionState] = {
    Told.COMMITTED: VersionState.COMMITTED,
    Told.INCOMPLETE: VersionState.INCOMPLETE,
    Told.REJECTED: VersionState.REJECTED,
}
RETAIN_EVERY_S = 3600.0
_RETAINED = "retained_looked_at"
_MARKS = "uplinks"
_WORST = (VersionState.REJECTED, VersionState.INCOMPLETE, VersionState.PENDING, VersionState.COMMITTED)


def retained_password(identity_folder: Path, group: str) -> str:
    """The password of the retained versions of a group: random, with the keys and not with the bytes. Made when it
    is not there."""
    path = identity_folder / f"retained-{group}.pass"
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        password = secrets.token_urlsafe(32)
        write_durably(path, f"{password}\n".encode())
        return password
    except UnicodeDecodeError:
        raise FormatError(f"password file {path}: damaged, not text") from None


@dataclass
class ReducingTier(TopTier):
    """``methods``: names of reduction methods, with their settings, in the order in which they reduce what goes up.
    ``retain_s``, ``retain_bytes``: how long, and how much, committed versions stay."""

    uplinks: Sequence[Uplink] = ()
    methods: Sequence[str] = ()
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    retain_s: int | None = None
    retain_bytes: int | None = None

    is_end: ClassVar[bool] = False

    # --- making and enrolling ---

    @property
    def ticket(self) -> Ticket:
        """Of the first uplink, whose chunker and tiers are told to the clients; NotEnrolledError."""
        return self.uplinks[0].ticket

    def init(self) -> list[str]:
        """Make identity, inboxes and the state of each uplink; the retained versions once it is enrolled."""
        lines = list(self._init_own())
        lines += [f"made state of the way up to {uplink.to}" for uplink in self.uplinks if uplink.init("UTC")]
        try:
            lines += self._init_retained()
        except NotEnrolledError:
            pass  # 'cdr init' and 'cdr enroll' come here again
        return lines

    def _init_retained(self) -> Iterator[str]:
        chunker = self.ticket.chunker
        try:
            super().open_repository().close()
        except NoRepositoryError:
            self.plugins.repository_format(self.format).create(self.repository, self.options, chunker).close()
            yield f"made retained versions {self.repository}"

    def enroll(self, text: str, uplink: Uplink, facts: Mapping[str, str]) -> Ticket:
        """Adopt a ticket for one uplink, and make what needs it."""
        ticket = uplink.enroll(text, facts)
        if uplink is self.uplinks[0]:
            list(self._init_retained())
        return ticket

    def require_identity(self) -> None:
        super().require_identity()
        for uplink in self.uplinks:
            _ = uplink.ticket

    def open_repository(self) -> Repository:
        """The retained versions. Where their folder was lost, an empty one takes its place: clients keep what is not
        committed, and the tiers above have what is."""
        try:
            return super().open_repository()
        except NoRepositoryError:
            list(self._init_retained())
            return super().open_repository()

    def chunker_of_group(self) -> Mapping[str, str | int]:
        return self.ticket.chunker

    def tiers_of_group(self) -> tuple[TierKey, ...]:
        """This tier and all above it, nearest first."""
        return (*super().tiers_of_group(), *self.ticket.tiers)

    def abilities_of_group(self) -> tuple[str, ...]:
        """What is opaque here still has to be decoded above."""
        return tuple(self.ticket.abilities)

    # --- passing on ---

    def before_passes(self, reporter: Reporter) -> None:
        """What was taken here and lay in the spool of an uplink whose state is gone was passed on by nobody: clients
        are told that it is missing, and send what is not committed yet."""
        marks = b"".join(uplink.state.mark for uplink in self.uplinks)
        known = self.state.get(_MARKS)
        if known is not None and known != marks:
            self.state.forget_taken()
            reporter.note(f"{self.name}: the state of a way up is new; clients send again what is not committed")
        if known != marks:
            self.state.put({_MARKS: marks})

    @contextmanager
    def passing_on(self, reporter: Reporter, result: ReceiveResult) -> Iterator[Onward]:
        from cdr_plugin.reducing.passing import PassingOn

        for uplink in self.uplinks:
            uplink.state.close_parcels()  # what a crash left open
        onward = PassingOn(self.uplinks, [self._reducers() for _ in self.uplinks], result)
        try:
            yield onward
        finally:
            onward.close()

    def _reducers(self) -> list[Reducer]:
        methods = [self.plugins.reduction_method(name) for name in self.methods]
        made = (method.reducer(dict(self.method_settings.get(method.name, {}))) for method in methods)
        return [reducer for reducer in made if reducer is not None]

    def after_passes(self, reporter: Reporter) -> None:
        """Forget what has been kept long enough; seldom, since the repository has to be opened for it."""
        from cdr_plugin.reducing.retention import retain

        now_s = time.time()
        last_s = float(self.state.get(_RETAINED) or b"0")
        if not last_s <= now_s < last_s + RETAIN_EVERY_S:
            retain(self, now_s, reporter)
            self.state.put({_RETAINED: str(now_s)})

    # --- answering ---

    def with_news(self) -> set[bytes]:
        return super().with_news().union(*(uplink.state.with_news() for uplink in self.uplinks))

    def told_news(self, client: Client) -> None:
        super().told_news(client)
        for uplink in self.uplinks:
            uplink.state.told_news(client.fingerprint)

    def versions_told(self, client: Client, rows: list[VersionRow]) -> list[VersionRow]:
        """What all tiers above say of each version; what is only here is *stored*. An uplink that came later does not
        know of earlier ones."""
        told = self._told_above(client)
        keys = ((row.number, row.hash) for row in rows)
        found = ([one[key] for one in told if key in one] or [("", "", "")] for key in keys)
        return [self._told(row, says) for row, says in zip(rows, found, strict=True)]

    def versions_named(self, client: Client, rows: list[VersionRow]) -> list[VersionRow]:
        """Of what an uplink does not know, whose state may be new, nothing is said: to whom it matters still, that
        version is not settled, and its record comes again."""
        known = set.intersection(*map(set, self._told_above(client)))
        named = [row for row in rows if row.state is VersionState.REJECTED or (row.number, row.hash) in known]
        return self.versions_told(client, named)

    def _told_above(self, client: Client) -> list[dict[tuple[int, bytes], tuple[str, str, str]]]:
        return [uplink.state.told(client.fingerprint) for uplink in self.uplinks]

    def _told(self, row: VersionRow, told: Sequence[tuple[str, str, str]]) -> VersionRow:
        if row.state is VersionState.REJECTED:
            return row
        states = [_STATES.get(state, VersionState.PENDING) for state, _, _ in told]
        worst = min(range(len(told)), key=lambda at: _WORST.index(states[at]))
        _, snapshot, reason = told[worst]
        return replace(row, state=states[worst], snapshot=snapshot, reason=reason)

    def settle_above(self, client: Client, rows: ClientRows) -> None:
        """A version that is settled above waits for nothing here."""
        waiting = [row for row in rows.versions() if row.state is VersionState.PENDING]
        for row, told in zip(waiting, self.versions_told(client, waiting), strict=True):
            if told.state is not VersionState.PENDING:
                rows.settle(replace(row, record=b""), told.state, reason=told.reason)

    def has_introductions(self) -> bool:
        clients = {client.fingerprint for client in self._clients()}
        return any(clients - uplink.state.known_above() for uplink in self.uplinks)

    def _clients(self) -> list[Client]:
        """Clients below, as far as they are served: no tiers, of which nobody above needs to hear."""
        return [client for client in self.register.makers(self.group) if client.state is ClientState.APPROVED]

    def end_pass(self, pass_: Pass, repository: str, listings: Sequence[Inbox], senders: Container[bytes]) -> None:
        """Standings are the top tier's; tiers below are told what is kept here."""
        from cdr_plugin.reducing.passing import PassingOn
        from cdr_plugin.top.digest import publish_digests

        publish_digests(self, pass_.added, pass_.inboxes, listings)
        assert isinstance(pass_.onward, PassingOn)
        pass_.onward.introduce(self._clients())

    def close(self) -> None:
        super().close()
        for uplink in self.uplinks:
            state = uplink.__dict__.pop("state", None)
            if state is not None:
                state.close()
