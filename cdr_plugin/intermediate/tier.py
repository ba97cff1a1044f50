"""One intermediate tier: its inboxes, its spool, and the storage above."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cdr_plugin.contracts import Transport, Verdict
from cdr_plugin.files import exclusive, remove_temporaries
from cdr_plugin.intermediate.forward import Moved, bring_answers, send, take, waiting
from cdr_plugin.plugins import Plugins
from cdr_plugin.reporter import Reporter


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

    @property
    def spool(self) -> Path:
        return self.state_folder / "spool"

    def init(self) -> bool:
        """Make state and inboxes where they are missing."""
        made = not self.spool.exists()
        self.spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        for inbox in self.inboxes:
            self.plugins.transport(inbox, create=True).close()
        return made

    def receive(self, reporter: Reporter) -> Moved:
        """Take what the inboxes hold into the spool."""
        total, plugins = Moved(), self.plugins.limited(self.receive_limit)
        with self._working() as spool, ExitStack() as stack:
            for url in self.inboxes:
                inbox = stack.enter_context(plugins.transport(url))
                total.add(take(inbox, spool, self.spool, reporter))
        return total

    def send(self, reporter: Reporter, may_go_on: Callable[[], Verdict] = lambda: Verdict(True)) -> Moved:
        """Put the spool into the storage above, and bring answers down. ``may_go_on`` is asked before each
        segment; when it says no, the rest waits, and the result says for what."""
        with self._working() as spool, ExitStack() as stack:
            above = stack.enter_context(self.plugins.limited(self.forward_limit).transport(self.to))
            moved = send(spool, self.spool, above, reporter, may_go_on)
            inboxes = [stack.enter_context(self.plugins.transport(url)) for url in self.inboxes]
            moved.answers = bring_answers(above, inboxes, reporter)
        return moved

    def queue(self) -> tuple[int, int]:
        """Segments and bytes that wait in the spool."""
        with self.plugins.transport(f"{self.spool}", create=True) as spool:
            return waiting(spool)

    @contextmanager
    def _working(self) -> Iterator[Transport]:
        with (
            exclusive(self.state_folder / "move.lock", f"moving segments of {self.name}"),
            self.plugins.transport(f"{self.spool}", create=True) as spool,
        ):
            remove_temporaries(self.spool)
            yield spool
