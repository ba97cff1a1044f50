"""One intermediate tier that opens nothing: its inboxes, its spool, and the storage above.

::

    inboxes --take--> spool --forward--> storage above          answers: storage above --copy--> inboxes

Every step can be repeated; see ``take`` and ``forward``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.contracts import Transport, Verdict
from cdr_plugin.errors import RemoteError
from cdr_plugin.files import exclusive, remove_temporaries
from cdr_plugin.intermediate.objects import Moved, waiting
from cdr_plugin.parcel.layout import Layout, post_layout
from cdr_plugin.parcel.naming import plain_room_name
from cdr_plugin.plugins import Plugins
from cdr_plugin.reporter import Reporter
from cdr_plugin.tier_state import TierState


@dataclass
class IntermediateTier:
    """A tier that moves segments unopened. It has no identity: it can read nothing that it moves."""

    name: str
    state_folder: Path
    inboxes: Sequence[str]
    to: str
    plugins: Plugins
    receive_limit: int | None = None
    """Bytes per second from the inboxes, as ``forward_limit`` to the storage above."""
    forward_limit: int | None = None
    also_to: Sequence[str] = ()
    """Other storages of the tier above, in whose place the first one that answers is used."""
    spool_limit: int | None = None
    """The most bytes that wait in the spool; what does not fit stays in the inboxes."""
    inbox_limit: int | None = None
    """The most bytes that senders may leave in each inbox."""
    inbox_layout: str = "per-client"
    """How senders are to lay out what they put; it travels on as it is."""

    @property
    def spool(self) -> Path:
        return self.state_folder / "spool"

    def init(self) -> bool:
        """Make state and inboxes where they are missing."""
        made = not self.spool.exists()
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        for url in self.inboxes:
            with self.plugins.transport(url, create=True) as inbox:
                self._post_notes(inbox)
        return made

    def receive(self, reporter: Reporter) -> Moved:
        """Take what the inboxes hold into the spool. ``failures`` counts inboxes that were left out."""
        from cdr_plugin.intermediate.take import take  # not for 'cdr status', which needs no crypto library

        with self._working() as spool, ExitStack() as stack:
            limited = self.plugins.limited(self.receive_limit)
            inboxes, failures = self._reachable(limited, self.inboxes, stack, reporter.note)
            moved = take(inboxes, spool, self.spool, self.spool_limit, reporter, all_reached=not failures)
            moved.failures += failures
            for url, inbox in inboxes.items():
                try:
                    self._post_notes(inbox)
                except RemoteError as error:  # what was taken is taken
                    reporter.note(f"inbox {url}: {error}; the notes in it are as old as before")
        return moved

    def send(self, reporter: Reporter, may_go_on: Callable[[], Verdict] = lambda: Verdict(True)) -> Moved:
        """Put the spool into the storage above, and bring answers down. ``may_go_on`` is asked before each
        segment; when it says no, or there is no room above, the rest waits, and the result says for what."""
        from cdr_plugin.intermediate.answers import bring_answers, bring_statuses
        from cdr_plugin.intermediate.forward import send

        with self._working() as spool, ExitStack() as stack:
            limited = self.plugins.limited(self.forward_limit)
            above, left_out = self._reachable(limited, (self.to, *self.also_to), stack, reporter.note)
            moved = send(spool, self.spool, list(above.values()), reporter, may_go_on)
            state = stack.enter_context(closing(TierState(self.state_folder / "answers", "", 1)))
            inboxes, moved.failures = self._reachable(self.plugins, self.inboxes, stack, reporter.note)
            below = list(inboxes.values())
            moved.answers = bring_answers(above, below, state, reporter)
            bring_statuses(above, below, state, is_all=not left_out)
        return moved

    def queue(self) -> tuple[int, int]:
        """Segments and bytes that wait in the spool."""
        with self.plugins.transport(f"{self.spool}", create=True) as spool:
            return waiting(spool)

    def _reachable(
        self, plugins: Plugins, urls: Sequence[str], stack: ExitStack, note: Callable[[str], None]
    ) -> tuple[Mapping[str, Transport], int]:
        """Those that answer, open, and how many do not; RemoteError when none does."""
        found: dict[str, Transport] = {}
        failures: list[RemoteError] = []
        for url in dict.fromkeys(urls):
            try:
                found[url] = stack.enter_context(plugins.transport(url))
            except RemoteError as error:
                failures.append(error)
        if not found:
            raise failures[0]
        for failure in failures:
            note(f"{self.name}: {failure}; left out for now")
        return found, len(failures)

    def _post_notes(self, inbox: Transport) -> None:
        """Notes that nobody signs: this tier has no keys. Whoever forges one can make senders wait, no more."""
        post_layout(inbox, Layout(self.inbox_layout))
        if self.inbox_limit is None:
            inbox.delete(plain_room_name())
            return
        from cdr_plugin.inbox_limit.posting import measure
        from cdr_plugin.parcel.room import write_plain_room

        note = write_plain_room(measure(inbox).room(self.inbox_limit, time.time()))
        inbox.put(plain_room_name(), note, overwrite=True)

    @contextmanager
    def _working(self) -> Iterator[Transport]:
        with (
            exclusive(self.state_folder / "move.lock", f"moving segments of {self.name}"),
            self.plugins.transport(f"{self.spool}", create=True) as spool,
        ):
            remove_temporaries(self.spool)
            yield spool
