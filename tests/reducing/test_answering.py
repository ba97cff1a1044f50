"""Answers to *missing* when the disk is bad, full, or too small for all of them at once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from cdr_plugin.assembly import reducing_tiers
from cdr_plugin.client.states import SegmentEvent, SegmentState
from cdr_plugin.errors import RemoteError, StorageFullError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.limits import MIN_SEGMENT_BYTES
from cdr_plugin.parcel.receipt import Receipt
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.parcel_writer import ParcelWriter
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from tests.reducing.worlds import branch_world
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers


def branch_of(tiers: Tiers) -> ReducingTier:
    return next(iter(reducing_tiers(tiers.config, tiers.tier("branch"), installed(), Reporter())))


@pytest.fixture
def asked() -> Iterator[Tiers]:
    """The top has lost all that the branch sent of its client, and asks for it."""
    with folder_in_memory() as folder:
        tiers = branch_world(folder / "world", ["a"])
        tiers.deliver()
        tiers.backup("a")
        tiers.send("a")
        tiers.receive("branch")
        with closing(branch_of(tiers)) as branch:
            (client,) = branch.register.clients("g")
            state = branch.uplinks[0].state
            keys = list(branch.state.client(client.fingerprint).possessed())
            state.advance(state.segments(SegmentState.SPOOLED), SegmentEvent.TAKE)
            blobs = [(BlobType(key[0]), BlobId(key[1:])) for key in keys]
            state.take_relayed(client.fingerprint, Receipt(time.time_ns() // 1000, missing=blobs))
        yield tiers


def left(tiers: Tiers) -> int:
    with closing(branch_of(tiers)) as branch:
        return len(branch.uplinks[0].state.asked())


def settle(tiers: Tiers) -> None:
    tiers.deliver(4)
    tiers.assert_settled("hq", {"g": ["a"]})


def test_answers_take_no_more_room_than_there_is_and_the_rest_follows(
    asked: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ParcelWriter.__init__.__kwdefaults__, "segment_bytes", MIN_SEGMENT_BYTES)
    monkeypatch.setattr("cdr_plugin.reducing.answering.full_text", lambda _uplink: "full")
    before = left(asked)
    after = []
    for _ in range(3):
        asked.send("branch")
        after.append(left(asked))
    assert before > after[0] > after[1] > after[2] > 0
    monkeypatch.undo()
    settle(asked)


def test_what_cannot_be_read_is_asked_of_the_client_and_stops_nothing(
    asked: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> bytes:
        raise RemoteError("pack 1234: bad sector")

    with monkeypatch.context() as patched:
        patched.setattr("cdr_restic.reading.ResticReader.read", fails)
        asked.send("branch")
    assert asked.send("a").segments_sent > 0
    settle(asked)


def test_a_full_disk_does_not_keep_what_waits_from_being_sent(asked: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise StorageFullError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("cdr_plugin.reducing.parcel_writer.write_durably", fails)
        asked.send("branch")
    settle(asked)
