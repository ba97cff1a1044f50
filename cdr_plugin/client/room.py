"""Room in the spool: what may wait there, and what goes when there is no more.

Sealed bytes in the spool stay within ``spool.max_size``, but for the few segments that are being written.
Room is made of what the storage has as well: a recipe stays in its place. See docs/design/transfer-queue.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cdr_plugin.client.rows import SegmentRow
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import Verdict
from cdr_plugin.errors import CdrError, NotConvenientError, RemoteError, StorageFullError

if TYPE_CHECKING:
    from cdr_plugin.client.send import Sender

RESERVE_BYTES = 64 * 1024 * 1024
RESERVE_PART = 50
"""Of the disk so much, but at most a fiftieth, is left to catalogs, the state and others."""
WAIT_S = 60.0
"""How long another sender may take for one segment before a run stops waiting for it."""
_LOOK_EVERY_S = 0.1


class SpoolFullError(StorageFullError):
    """The spool is full, and nothing can be sent now."""


def free_files(client: ClientTier, rows: Iterable[SegmentRow]) -> None:
    """Recipes stand for these segments from now on: rows first, files afterwards."""
    dropped = [row for row in rows if row.held]
    if dropped:
        client.state.holdings.drop(dropped)
        remove_files(client, dropped)


def remove_files(client: ClientTier, rows: Iterable[SegmentRow]) -> None:
    """Files of segments that no row holds any more; what a crash leaves is swept at the next start."""
    for row in rows:
        spool_path(client.spool, row.parcel_id, row.index).unlink(missing_ok=True)


class Room:
    """Makes room for one writer. ``send_next`` sends one segment of the queue, or says False when it cannot."""

    def __init__(self, client: ClientTier, send_next: Callable[[], bool]) -> None:
        self._client = client
        self._holdings = client.state.holdings
        self._send_next = send_next

    def need(self, size: int) -> None:
        """Returns when ``size`` bytes fit; SpoolFullError when they cannot be made to. What is larger than the
        limit by itself fits when the spool is empty."""
        while (lacking := self._lacking(size)) > 0:
            if not self._make_recipes(lacking) and not self._send_next():
                raise SpoolFullError(self._full_text())

    def _lacking(self, size: int) -> int:
        """Bytes that must go before ``size`` more fit."""
        lacking = _lacking_on_disk(self._client, size)
        if self._client.spool_limit is not None and (held := self._holdings.size()):
            lacking = max(lacking, held + size - self._client.spool_limit)
        return lacking

    def _make_recipes(self, lacking: int) -> bool:
        chosen: list[SegmentRow] = []
        for row in self._holdings.replaceable_by_recipes():
            if lacking <= 0:
                break
            chosen.append(row)
            lacking -= row.size
        free_files(self._client, chosen)
        return bool(chosen)

    def _full_text(self) -> str:
        limit = self._client.spool_limit
        what = f"{self._holdings.size()} bytes wait in it" + ("" if limit is None else f", spool.max_size is {limit}")
        return f"client {self._client.name}: no room in the spool {self._client.spool} ({what})"


def _lacking_on_disk(client: ClientTier, size: int) -> int:
    disk = os.statvfs(client.spool)
    reserve = min(RESERVE_BYTES, disk.f_blocks * disk.f_frsize // RESERVE_PART)
    return size + reserve - disk.f_bavail * disk.f_frsize


class Streaming:
    """Sending from within a run that spools: opened when the spool is full for the first time, and held,
    with ``send.lock``, until the run ends. Beside another sender it waits for what that one sends.
    ``may_send``: is it convenient?"""

    def __init__(
        self, client: ClientTier, open_sender: Callable[[], Sender], may_send: Callable[[], Verdict]
    ) -> None:
        self._client = client
        self._may_send = may_send
        self._open_sender = open_sender
        self._sender: Sender | None = None
        self._stack = ExitStack()
        self.failure: CdrError | None = None
        """Why nothing can be sent now."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._sender is not None and self.failure is None and kind is None:
                self._sender.announce()
        except RemoteError:
            pass  # the next send announces it
        finally:
            self._stack.close()

    def send_next(self) -> bool:
        """Whether something was sent, by us or by another sender."""
        if self.failure is not None:
            return False
        try:
            self._ask()
            sender = self._opened()
            return self._wait() if sender is None else sender.send_next()
        except RemoteError as error:
            self.failure = error
            return False

    def _ask(self) -> None:
        verdict = self._may_send()
        if not verdict.convenient:
            raise NotConvenientError(verdict.reason)

    def _opened(self) -> Sender | None:
        """Our sender; None while another one is at work."""
        if self._sender is None:
            sender = self._open_sender()
            try:
                self._stack.enter_context(sender)
            except NotConvenientError:
                return None
            self._sender = sender
            sender.begin()
        return self._sender

    def _wait(self) -> bool:
        deadline_s = time.monotonic() + WAIT_S
        while time.monotonic() < deadline_s:
            if self._client.state.holdings.replaceable_by_recipes() or self._opened() is not None:
                return True
            time.sleep(_LOOK_EVERY_S)
        raise NotConvenientError(f"another process sends, but nothing has left for {WAIT_S:g} seconds")
