"""``cdr send`` of a reducing tier: as that of a client, with answers from what it keeps, and news for those below."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from cdr_plugin.client.policy import adopt_policies
from cdr_plugin.client.room import remove_files
from cdr_plugin.client.send import Sender, SendResult, Sent
from cdr_plugin.contracts import Transport, Verdict
from cdr_plugin.errors import RemoteError, StorageFullError
from cdr_plugin.reducing.answering import answer_asked
from cdr_plugin.reducing.relaying import carry_down, take_digest, take_relayed, tell_news
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reducing.uplink import Uplink
from cdr_plugin.reporter import Reporter


class UplinkSender(Sender):
    """One session of sending on one uplink."""

    def __init__(self, tier: ReducingTier, uplink: Uplink, reporter: Reporter, sent: Sent) -> None:
        super().__init__(uplink, reporter, sent)
        self._tier = tier
        self._uplink = uplink

    def _take_answers(self) -> None:
        self._read_receipts()

    def _read_receipts(self) -> None:
        self._read_receipt()
        take_relayed(self._tier, self._uplink, self._storages, self._reporter)
        self._release()
        adopt_policies(self._uplink, self._storages.values(), self._folder, self._reporter)
        self._each(lambda _, storage: take_digest(self._tier, self._uplink, storage, self._reporter))
        self._carry_down()

    def _release(self) -> None:
        rows = self._uplink.state.releasable()
        if rows:
            self._uplink.state.release(rows)
            remove_files(self._uplink, rows)

    def _carry_down(self) -> None:
        """Standings before the receipts that speak of the same: a client reads the standing behind the receipt."""
        with ExitStack() as stack:
            inboxes: list[Transport] = []
            for url in self._tier.inboxes:
                try:
                    inboxes.append(stack.enter_context(self._tier.plugins.transport(url)))
                except RemoteError as error:
                    self._reporter.note(f"tier {self._tier.name}: {error}; its clients are told later")
            carry_down(self._tier, self._uplink, self._storages, inboxes, self._reporter)

    def _answer_wanted(self) -> None:
        try:
            answer_asked(self._tier, self._uplink, self._reporter)
        except StorageFullError as error:  # sending what waits makes room
            self._reporter.note(f"{error}; what the tiers above ask for has to wait")


def send(
    tier: ReducingTier,
    reporter: Reporter,
    sent: Sent = lambda _row: None,
    may_go_on: Callable[[], Verdict] = lambda: Verdict(True),
) -> SendResult:
    """Send what is spooled on every uplink, take in what was answered, and tell the clients. One uplink that
    fails does not stop the others; its error is raised in the end."""
    total = SendResult()
    failures: list[RemoteError] = []
    for uplink in tier.uplinks:
        try:
            with UplinkSender(tier, uplink, reporter, sent) as sender:
                total.add(sender.run(may_go_on))
        except RemoteError as error:
            failures.append(error)
    tell_news(tier, reporter)
    if failures:
        raise failures[0]
    return total


def waiting(tier: ReducingTier) -> tuple[int, int]:
    """Segments and bytes that wait on all uplinks."""
    queues = [uplink.state.queue() for uplink in tier.uplinks]
    return sum(segments for segments, _ in queues), sum(size for _, size in queues)
