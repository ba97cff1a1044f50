"""Telling clients what changes rarely: an answer is written anew only where it says something else than last
time, or where a storage has lost it.

What was said last is noted as a hash behind the saying, so that what is cut short is said again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from cdr_plugin.identity.register import Client
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.top.inbox import Inbox, Inboxes, homes_of
from cdr_plugin.top.tier import TopTier

Write = Callable[[int], bytes]
"""The object that says it, for a serial."""


@dataclass(frozen=True)
class Saying:
    """Answers of one kind, for one pass over the inboxes. For ``present_clients`` (fingerprints: those that sent
    something) it is made sure that the object is still there."""

    top: TopTier
    answer: Answer
    inboxes: Inboxes
    listings: Sequence[Inbox]
    present_clients: Container[bytes]

    @property
    def _prefix(self) -> str:
        return f"{self.answer.value}:"

    @cached_property
    def _said(self) -> dict[str, bytes]:
        """What each client was told last, by its fingerprint: one question for all."""
        return self.top.state.facts(self._prefix)

    @cached_property
    def _signer(self) -> bytes:
        return self.top.identity.signing.public.raw if self.top.identity.predecessors else b""

    def say(self, client: Client, body: bytes, write: Write) -> None:
        """``body``: equal for documents that say the same. The note is made only when no inbox was left out."""
        digest = sha256(body + self._signer).digest()  # what a key of before has signed is said anew
        is_said = self._said.get(client.fingerprint.hex()) == digest
        if is_said and client.fingerprint not in self.present_clients:
            return
        folder = folder_id(client.key, self.top.group)
        name = answer_name(folder, self.answer)
        homes = homes_of(folder, self.inboxes, self.listings)
        if is_said and not self.inboxes.lack(name, homes):
            return
        said = f"{self._prefix}{client.fingerprint.hex()}"
        data = write(self.top.state.next_serial(said))
        for inbox in self.inboxes.reachable(homes):
            with self.inboxes.using(inbox):
                inbox.put(name, data, overwrite=True)
        if not self.inboxes.failures:
            self.top.state.put({said: digest})
