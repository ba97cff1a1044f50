"""One client: its identity, state, spool and the group that it was enrolled into."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdr_plugin.client.state import ClientState
from cdr_plugin.errors import ConfigError, NotEnrolledError, UserError

# Keys and tickets need the crypto library, 60 ms to import, which 'cdr status' does without.
if TYPE_CHECKING:
    from cdr_plugin.client.spooler import LabelledEncoder
    from cdr_plugin.contracts import ReductionMethod, Splitter
    from cdr_plugin.identity.store import Identity
    from cdr_plugin.identity.ticket import Ticket
    from cdr_plugin.plugins import Plugins


@dataclass
class ClientTier:
    """A client as its configuration describes it. ``to`` is the URL of the storage that it sends
    to, ``methods`` the reduction methods by name with their settings."""

    name: str
    state_folder: Path
    identity_folder: Path
    spool: Path
    to: str
    methods: Sequence[str]
    plugins: Plugins
    group: str | None = None
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @cached_property
    def identity(self) -> Identity:
        from cdr_plugin.identity.store import Identity

        return Identity.load(self.identity_folder)

    @cached_property
    def state(self) -> ClientState:
        if not (self.state_folder / "state.db").exists():
            raise NotEnrolledError(f"client {self.name}: no state in {self.state_folder}; run 'cdr init'")
        return ClientState(self.state_folder)

    @cached_property
    def ticket(self) -> Ticket:
        """The ticket that was adopted; NotEnrolledError before ``cdr enroll``."""
        from cdr_plugin.identity.ticket import read_ticket

        text = self.state.get("ticket")
        if text is None:
            raise NotEnrolledError(f"client {self.name}: not enrolled; run 'cdr enroll TICKET'")
        return read_ticket(text.decode(), now_s=0)  # its expiry binds enrolment, not use

    @property
    def enrolled_group(self) -> str:
        """The group of the adopted ticket; NotEnrolledError before ``cdr enroll``."""
        group = self.state.get("group")
        return self.ticket.group if group is None else group.decode()

    @property
    def fingerprint(self) -> bytes:
        return self.identity.signing.public.fingerprint

    @property
    def zone_name(self) -> str:
        """The time zone of all trees, fixed at init so that a travelling laptop rewrites none."""
        found = self.state.get("timezone")
        if found is None:
            raise NotEnrolledError(f"client {self.name}: no time zone in its state; run 'cdr init'")
        return found.decode()

    def init(self, zone: str) -> bool:
        """Make identity, state and spool where they are missing; whether anything was made."""
        from cdr_plugin.identity.store import Identity

        made = False
        if not (self.identity_folder / "identity.key").exists():
            Identity.create(self.identity_folder)
            made = True
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = ClientState(self.state_folder)
        if state.get("timezone") is None:
            state.put({"timezone": zone})
            made = True
        self.__dict__["state"] = state
        return made

    def enroll(self, text: str, facts: Mapping[str, str]) -> Ticket:
        """Adopt a ticket: remember it and the request that answers it, which ``send`` delivers."""
        from cdr_plugin.identity.ticket import read_ticket, request_enrolment

        ticket = read_ticket(text, now_s=time.time())
        if self.group not in (None, ticket.group):
            raise ConfigError(
                f"client {self.name}: the ticket is for group {ticket.group!r}, the configuration says {self.group!r}"
            )
        old = self.state.get("ticket")
        if old is not None and read_ticket(old.decode(), now_s=0).group != ticket.group:
            raise UserError(f"client {self.name}: enrolled in another group already; a move needs a new state folder")
        sealing = self.identity.sealing_key(ticket.group, create=True).public
        request = request_enrolment(
            ticket, self.identity.signing, sealing, name=self.name, facts=facts, issued_s=int(time.time())
        )
        self.state.put({"ticket": text, "enrolment": request, "group": ticket.group})
        self.__dict__["ticket"] = ticket
        return ticket

    # --- reduction ---

    def _methods(self) -> list[ReductionMethod]:
        return [self.plugins.reduction_method(name) for name in self.methods]

    def splitter_factory(self) -> Callable[[], Splitter]:
        """Makes splitters: the configured method that splits, else the one that the group names."""
        parameters = self.ticket.chunker
        for method in self._methods():
            if method.splitter(self.method_settings.get(method.name, {})) is not None:
                return lambda: _splitter(method, self.method_settings.get(method.name, {}))
        method = self.plugins.reduction_method(str(parameters.get("name", "rabin")))
        return lambda: _splitter(method, parameters)

    def encoders(self) -> Sequence[LabelledEncoder]:
        """New encoders for one thread, in the configured order."""
        found = []
        for method in self._methods():
            encoder = method.encoder(self.method_settings.get(method.name, {}))
            if encoder is not None:
                found.append((method.label, encoder))
        return found


def _splitter(method: ReductionMethod, parameters: Mapping[str, Any]) -> Splitter:
    splitter = method.splitter(parameters)
    if splitter is None:
        raise ConfigError(f"reduction method {method.name} does not split; the group's ticket says it does")
    return splitter
