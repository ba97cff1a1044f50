"""One client: its identity, state, spool and the group that it was enrolled into."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cdr_plugin.client.state import ClientState
from cdr_plugin.errors import ConfigError, NotEnrolledError, PluginError, UserError

ENROLLED_AFTER = "enrolled_after"
"""Fact of the state: serial of the last receipt before the ticket was adopted, empty when there was none."""
RESEAL = "reseal"
"""Fact of the state: what waits is sealed to keys that the tier above does not have any more."""
OLDER_KEYS_UNTIL = "older_keys_until"
"""Fact of the state: parcels up to this one were sealed before the tier above told us a newer key."""

# Keys and tickets need the crypto library, 60 ms to import, which 'cdr status' does without.
if TYPE_CHECKING:
    from cdr_plugin.baseline import Baseline
    from cdr_plugin.client.encoding import LabelledEncoder
    from cdr_plugin.client.known_blobs import KnownBlobs
    from cdr_plugin.client.remembering import Remembering
    from cdr_plugin.contracts import Decoder, ReductionMethod, Splitter
    from cdr_plugin.identity.store import Identity
    from cdr_plugin.identity.ticket import Ticket
    from cdr_plugin.plugins import Plugins
    from cdr_plugin.reporter import Reporter


@dataclass
class ClientTier:
    """A client as its configuration describes it, with one transfer queue.

    ``to`` is the URL of the storage that it sends to, ``also_to`` are others in whose place the first one
    that answers is used; ``methods`` the reduction methods by name with their settings. ``spool_limit``: the
    most sealed bytes that wait here; ``release``: the acknowledgement that frees a segment's bytes.
    ``keeps_copy``: the baseline keeps the bytes of data blobs, not only what methods remember of them.
    ``inherits``: the group's central policy is adopted.
    """

    name: str
    state_folder: Path
    identity_folder: Path
    spool: Path
    to: str
    methods: Sequence[str]
    plugins: Plugins
    group: str | None = None
    method_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    also_to: Sequence[str] = ()
    spool_limit: int | None = None
    release: Literal["committed", "stored", "durable"] = "committed"
    keeps_copy: bool = False
    inherits: bool = False

    @property
    def storages(self) -> tuple[str, ...]:
        """URLs, in the order in which they are tried."""
        return (self.to, *self.also_to)

    @property
    def writing_lock(self) -> Path:
        """Held by whoever writes parcels that are not answers."""
        return self.state_folder / "backup.lock"

    @cached_property
    def identity(self) -> Identity:
        from cdr_plugin.identity.store import Identity

        return Identity.load(self.identity_folder)

    @cached_property
    def state(self) -> ClientState:
        self.require_state()
        return self.new_state()

    def require_state(self) -> None:
        """NotEnrolledError, naming the next step, when ``cdr init`` has not been run here."""
        if not (self.state_folder / "state.db").exists():
            raise NotEnrolledError(f"client {self.name}: no state in {self.state_folder}; run 'cdr init'")

    def new_state(self) -> ClientState:
        """The state, made when it is not there."""
        return ClientState(self.state_folder)

    @cached_property
    def ticket(self) -> Ticket:
        """The ticket that was adopted, with the keys that its issuer has now; NotEnrolledError before ``cdr
        enroll``."""
        from cdr_plugin.client.tier_keys import with_newest_keys
        from cdr_plugin.identity.ticket import read_ticket

        text = self.state.get("ticket")
        if text is None:
            raise NotEnrolledError(f"client {self.name}: not enrolled; run 'cdr enroll TICKET'")
        # Its expiry binds enrolment, not use.
        return with_newest_keys(read_ticket(text.decode(), now_s=0), self.state)

    def forget_ticket(self) -> None:
        """It is read anew when it is next asked for."""
        self.__dict__.pop("ticket", None)

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
        state = self.new_state()
        if state.get("timezone") is None:
            state.put({"timezone": zone})
            made = True
        self.__dict__["state"] = state
        return made

    def enroll(self, text: str, facts: Mapping[str, str]) -> Ticket:
        """Adopt a ticket: remember it and the request that answers it, which ``send`` delivers. Of another issuer
        than before: the tier above lost its keys, so what waits is to be sealed anew."""
        from cdr_plugin.client.tier_keys import FORGOTTEN
        from cdr_plugin.identity.ticket import read_ticket, request_enrolment

        ticket = read_ticket(text, now_s=time.time())
        if self.group not in (None, ticket.group):
            raise ConfigError(
                f"client {self.name}: the ticket is for group {ticket.group!r}, the configuration says {self.group!r}"
            )
        old = self.ticket if self.state.get("ticket") is not None else None
        if old is not None and old.group != ticket.group:
            raise UserError(f"client {self.name}: in another group already; 'cdr enroll --move' starts it anew")
        sealing = self.identity.sealing_key(ticket.group, create=True).public
        request = request_enrolment(
            ticket, self.identity.signing, sealing, name=self.name, facts=facts, issued_s=int(time.time())
        )
        self.state.put(
            {
                "ticket": text,
                "enrolment": request,
                "group": ticket.group,
                ENROLLED_AFTER: self.state.get("receipt_serial") or b"",
                RESEAL: b"1" if old is not None and old.issuer != ticket.issuer else self.state.get(RESEAL) or b"",
                OLDER_KEYS_UNTIL: b"",
                **FORGOTTEN,
            }
        )
        self.__dict__["ticket"] = ticket
        return ticket

    # --- reduction ---

    def _methods(self) -> list[ReductionMethod]:
        return [self.plugins.reduction_method(name) for name in self.methods]

    def splitter_factory(self) -> Callable[[], Splitter]:
        """Makes splitters: the configured method that splits, else the one that the group names."""
        parameters = self.ticket.chunker
        for method in self._methods():
            if method.splitter(self._settings(method)) is not None:
                return lambda: _splitter(method, self._settings(method))
        method = self.plugins.reduction_method(str(parameters.get("name", "rabin")))
        return lambda: _splitter(method, parameters)

    @cached_property
    def encoders(self) -> Callable[[], Sequence[LabelledEncoder]]:
        """Makes new encoders for one thread, in the configured order; ask for it where the state may be read."""
        methods, secret = self._methods(), {"key": self._encoder_key()}

        def make() -> Sequence[LabelledEncoder]:
            made = [(method.label, method.encoder(self._settings(method) | secret)) for method in methods]
            return [(label, encoder) for label, encoder in made if encoder is not None]

        return make

    def _settings(self, method: ReductionMethod) -> dict[str, Any]:
        return dict(self.method_settings.get(method.name, {}))

    def _encoder_key(self) -> bytes:
        """32 secret bytes of this client for whatever its methods hash: made once, so that what they
        remember stays comparable, and nobody can prepare contents that look alike."""
        key = self.state.get("encoder_key")
        if key is None:
            key = secrets.token_bytes(32)
            self.state.put({"encoder_key": key})
        return key

    def baseline(self) -> Baseline:
        """What is kept of the blobs that were delivered; to be closed."""
        from cdr_plugin.baseline import Baseline

        return Baseline(self.state_folder / "baseline", self._decoder)

    def _decoder(self, label: str) -> Decoder:
        decoder = self.plugins.reduction_method(label).decoder()
        if decoder is None:
            raise PluginError(f"reduction method {label} decodes nothing")
        return decoder

    def remembering(self, known: KnownBlobs, reporter: Reporter) -> Remembering:
        """The baseline of one run; under ``backup.lock``."""
        from cdr_plugin.client.remembering import Remembering

        labels = [method.label for method in self._methods()]
        return Remembering(self.baseline(), known, labels, reporter, keeps_data=self.keeps_copy)


def _splitter(method: ReductionMethod, parameters: Mapping[str, Any]) -> Splitter:
    splitter = method.splitter(parameters)
    if splitter is None:
        raise ConfigError(f"reduction method {method.name} does not split; the group's ticket says it does")
    return splitter
