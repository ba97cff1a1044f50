"""The top tier of one group: its inboxes, identity, register, state and repository."""

from __future__ import annotations

import secrets
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from cdr_plugin.contracts import Decoder, Repository, RepositoryOptions, Transport
from cdr_plugin.errors import NoRepositoryError, NotEnrolledError, PluginError
from cdr_plugin.identity.register import Register, SenderKind
from cdr_plugin.identity.store import Identity
from cdr_plugin.identity.ticket import Ticket, TierKey, new_secret, write_ticket
from cdr_plugin.model.blobs import PLAIN
from cdr_plugin.plugins import Plugins
from cdr_plugin.top.pins import is_pin
from cdr_plugin.top.state import ClientRows, TopState, VersionRow

if TYPE_CHECKING:
    from cdr_plugin.identity.register import Client
    from cdr_plugin.reporter import Reporter
    from cdr_plugin.top.inbox import Inbox
    from cdr_plugin.top.onward import Onward
    from cdr_plugin.top.result import ReceiveResult
    from cdr_plugin.top.subject import Pass

_REPOSITORY = "repository"


_NEWS = "news:"


def news_fact(client: Client) -> str:
    """The name in the tier's state for whether a client is to be told again what it was told before."""
    return f"{_NEWS}{client.fingerprint.hex()}"


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
    quota: int | None = None
    """The most bytes that each client may have stored, as delivered."""

    @cached_property
    def identity(self) -> Identity:
        return Identity.load(self.identity_folder)

    @property
    def landing(self) -> Path:
        """Where segments land that are reduced later; there once something has."""
        return self.state_folder / "landing"

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
        """Make what is missing: identity, group key, inboxes, repository; a line for each thing done.

        The repository is looked at first, so that nothing is made beside one that cannot be used:
        WrongPasswordError, NoRepositoryError for a folder that holds something else, LockedError.
        """
        found = self._existing_repository()
        lines = []
        if found is not None and not self._remembers(found):
            lines.append(self._adopt(found))
        lines += self._init_own()
        if found is None:
            found = self.plugins.repository_format(self.format).create(self.repository, self.options, {})
            lines.append(f"made repository {self.repository}")
        with closing(found):
            self.state.put({_REPOSITORY: found.id})
        return lines

    def _remembers(self, repository: Repository) -> bool:
        """Has this very repository been made or adopted before? Makes no state to find out."""
        has_state = (self.state_folder / "state.db").exists()
        return has_state and self.state.get(_REPOSITORY) == repository.id.encode()

    def _init_own(self) -> Iterator[str]:
        if not (self.identity_folder / "identity.key").exists():
            Identity.create(self.identity_folder)
            yield f"made identity {self.identity_folder}"
        self.identity.sealing_key(self.group, create=True)
        for inbox in self.inboxes:
            self.plugins.transport(inbox, create=True).close()

    def _existing_repository(self) -> Repository | None:
        try:
            return self.open_repository()
        except NoRepositoryError:
            self._refuse_other_files()
            return None

    def _adopt(self, repository: Repository) -> str:
        """What is to be said of a repository that was there before. UserError when it cannot be written."""
        from cdr_plugin.top.version_tags import VersionTag

        with repository.writing() as repo:
            versions = [version for version in repo.versions if not is_pin(version.snapshot)]
        ours = sum(any(VersionTag.parse(tag) for tag in version.snapshot.tags) for version in versions)
        made_by_cdr = f", {ours} of them made by cdr" if ours else ""
        form = f"format {repository.format_version}, " if repository.format_version else ""
        polynomial = repository.chunker.get("polynomial")
        kept = f"polynomial {polynomial} kept" if polynomial else "chunker kept"
        return f"adopted repository {self.repository} ({len(versions)} snapshots{made_by_cdr}, {form}{kept})"

    def _refuse_other_files(self) -> None:
        """A folder with files in it, but none that makes it a repository, is something else of somebody's."""
        folder = self.plugins.repository_format(self.format).local_folder(self.repository)
        try:
            files = sorted(path.name for path in folder.iterdir() if not path.is_dir()) if folder else []
        except OSError:
            return  # not there yet; what cannot be listed cannot be made either, and creating says why
        if files:
            raise NoRepositoryError(
                f"{self.repository} is no repository, but holds other files ({files[0]!r}); "
                "name the repository, or an empty folder for a new one, in store.repository"
            )

    def issue_ticket(self, *, uses: int = 1, valid_s: int = 30 * 86400, kind: SenderKind = SenderKind.CLIENT) -> str:
        """A new ticket of this group as text; it enrols ``uses`` clients, or tiers that speak for theirs, until
        it expires."""
        chunker = dict(self.chunker_of_group())
        now_s = int(time.time())
        ticket = Ticket(
            group=self.group,
            issuer=self.identity.signing.public,
            secret=new_secret(secrets.token_bytes),
            uses=uses,
            expires_s=now_s + valid_s,
            tiers=self.tiers_of_group(),
            sealing=self.identity.sealing_key(self.group).public,
            chunker=chunker,
            inboxes=tuple(self.inboxes),
            abilities=self.abilities_of_group(),
        )
        text = write_ticket(ticket, self.identity.signing, issued_s=now_s)
        self.register.add_ticket(
            ticket.secret, group=self.group, uses=uses, issued_s=now_s, expires_s=ticket.expires_s, kind=kind
        )
        return text

    def chunker_of_group(self) -> Mapping[str, str | int]:
        """The splitter's parameters that all clients of the group use."""
        with closing(self.open_repository()) as repository:
            return dict(repository.chunker)

    def tiers_of_group(self) -> tuple[TierKey, ...]:
        """The tiers that a ticket names, nearest first."""
        return (TierKey(name=self.name, key=self.identity.signing.public.raw),)

    def abilities_of_group(self) -> tuple[str, ...]:
        """Labels of the payloads that are decoded in the end."""
        names = [info.name for info in self.plugins.infos() if info.kind == "reduction method" and info.enabled]
        methods = [self.plugins.reduction_method(name) for name in names]
        return (PLAIN, *sorted(method.label for method in methods if method.decoder() is not None))

    def decoder(self, label: str) -> Decoder:
        """A new decoder for one thread; PluginError naming what is to be installed."""
        decoder = self.plugins.reduction_method(label).decoder()
        if decoder is None:
            raise PluginError(f"reduction method {label} decodes nothing")
        return decoder

    def other_groups(self) -> list[str]:
        """Groups of this tier besides this one: what is for them may lie in the same inbox."""
        return [group for group in self.identity.groups() if group != self.group]

    def view(self, inbox: Transport) -> Transport:
        """An inbox with all its layouts, as this group sees it."""
        from cdr_plugin.top.laid_out import laid_out

        return laid_out(inbox, self.group, self.identity, self.other_groups(), self.register)

    def close(self) -> None:
        for name in ("state", "register"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    # --- what is other where a tier passes on what it takes ---

    is_end: ClassVar[bool] = True
    """Nothing is above: what is missing here is asked for, and what is stored here is committed."""

    @contextmanager
    def passing_on(self, reporter: Reporter, result: ReceiveResult) -> Iterator[Onward]:
        """What one pass passes on."""
        from cdr_plugin.top.onward import Onward

        yield Onward()

    def versions_told(self, _client: Client, rows: list[VersionRow]) -> list[VersionRow]:
        """The versions of a client, each as the end of its way tells it."""
        return rows

    def versions_named(self, client: Client, rows: list[VersionRow]) -> list[VersionRow]:
        """Those of them that its receipt names."""
        return self.versions_told(client, rows)

    def has_introductions(self) -> bool:
        """Are there clients of which the tiers above have not heard?"""
        return False

    def with_news(self) -> set[bytes]:
        """Fingerprints of those to whom there is something to tell although they sent nothing."""
        return {bytes.fromhex(client) for client, news in self.state.facts(_NEWS).items() if news}

    def told_news(self, client: Client) -> None:
        """The client has been told."""
        if self.state.get(news_fact(client)):
            self.state.put({news_fact(client): ""})

    def settle_above(self, client: Client, rows: ClientRows) -> None:
        """Take in what the tiers above have made of the client's versions."""

    def end_pass(self, pass_: Pass, repository: str, listings: Sequence[Inbox], senders: Container[bytes]) -> None:
        """Before the repository is left; ``senders``: fingerprints of those for whom the pass was made."""
        from cdr_plugin.top.digest import publish_digests
        from cdr_plugin.top.standing import publish_standings
        from cdr_plugin.top.verified import publish_verified

        publish_standings(self, repository, pass_.snapshots, pass_.inboxes, listings, senders)
        publish_verified(self, pass_.inboxes, listings, senders)
        publish_digests(self, pass_.added, pass_.inboxes, listings)

    def before_passes(self, reporter: Reporter) -> None:
        """Before anything is looked at, under ``receive.lock``."""

    def after_passes(self, reporter: Reporter) -> None:
        """When all that lay in the inboxes has been taken, under ``receive.lock``."""

    def require_identity(self) -> None:
        """NotEnrolledError, naming the next step, when ``cdr init`` has not been run here."""
        if not self.identity.sealing_keys(self.group):
            raise NotEnrolledError(f"tier {self.name}: no key for group {self.group}; run 'cdr init'")
