"""The top tier of one group: its inboxes, identity, register, state and repository."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cdr_plugin.contracts import Decoder, Repository, RepositoryOptions
from cdr_plugin.errors import NoRepositoryError, NotEnrolledError, PluginError
from cdr_plugin.identity.register import Register
from cdr_plugin.identity.store import Identity
from cdr_plugin.identity.ticket import Ticket, TierKey, new_secret, write_ticket
from cdr_plugin.model.blobs import PLAIN
from cdr_plugin.plugins import Plugins
from cdr_plugin.top.state import TopState


@dataclass
class TopTier:
    """A top tier as its configuration describes it, for one group."""

    name: str
    group: str
    state_folder: Path
    identity_folder: Path
    inboxes: Sequence[str]
    format: str
    repository: str
    options: RepositoryOptions
    plugins: Plugins

    @cached_property
    def identity(self) -> Identity:
        return Identity.load(self.identity_folder)

    @cached_property
    def register(self) -> Register:
        # With the keys, not with the state: who may send survives the loss of the state folder.
        return Register(self.identity_folder / "register.db")

    @cached_property
    def state(self) -> TopState:
        return TopState(self.state_folder)

    def open_repository(self) -> Repository:
        return self.plugins.repository_format(self.format).open(self.repository, self.options)

    def init(self) -> list[str]:
        """Make what is missing: identity, group key, inboxes, repository; one line for each."""
        made = []
        if not (self.identity_folder / "identity.key").exists():
            Identity.create(self.identity_folder)
            made.append(f"identity {self.identity_folder}")
        self.identity.sealing_key(self.group, create=True)
        for inbox in self.inboxes:
            self.plugins.transport(inbox, create=True).close()
        try:
            self.open_repository().close()
        except NoRepositoryError:
            self.plugins.repository_format(self.format).create(self.repository, self.options, {}).close()
            made.append(f"repository {self.repository}")
        return made

    def issue_ticket(self, *, uses: int = 1, valid_s: int = 30 * 86400) -> str:
        """A new ticket of this group as text; it enrols ``uses`` clients until it expires."""
        with_repository = self.open_repository()
        try:
            chunker = dict(with_repository.chunker)
        finally:
            with_repository.close()
        now_s = int(time.time())
        ticket = Ticket(
            group=self.group,
            issuer=self.identity.signing.public,
            secret=new_secret(secrets.token_bytes),
            uses=uses,
            expires_s=now_s + valid_s,
            tiers=(TierKey(name=self.name, key=self.identity.signing.public.raw),),
            sealing=self.identity.sealing_key(self.group).public,
            chunker=chunker,
            inboxes=tuple(self.inboxes),
            abilities=self._abilities(),
        )
        text = write_ticket(ticket, self.identity.signing, issued_s=now_s)
        self.register.add_ticket(ticket.secret, group=self.group, uses=uses, issued_s=now_s, expires_s=ticket.expires_s)
        return text

    def _abilities(self) -> tuple[str, ...]:
        """Labels of the payloads that this tier can decode."""
        names = [info.name for info in self.plugins.infos() if info.kind == "reduction method" and info.enabled]
        methods = [self.plugins.reduction_method(name) for name in names]
        return (PLAIN, *sorted(method.label for method in methods if method.decoder() is not None))

    def decoder(self, label: str) -> Decoder:
        """A new decoder for one thread; PluginError naming what is to be installed."""
        decoder = self.plugins.reduction_method(label).decoder()
        if decoder is None:
            raise PluginError(f"reduction method {label} decodes nothing")
        return decoder

    def close(self) -> None:
        for name in ("state", "register"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    def require_identity(self) -> None:
        """NotEnrolledError, naming the next step, when ``cdr init`` has not been run here."""
        if not self.identity.sealing_keys(self.group):
            raise NotEnrolledError(f"tier {self.name}: no key for group {self.group}; run 'cdr init'")
