"""What a tier that reduces says to those below it, and to the tier above, whatever became of what it said before."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from cdr_plugin.assembly import client_tier, reducing_tiers
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.states import SegmentEvent, SegmentState, VersionState
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.parcel.layout import Layout
from cdr_plugin.parcel.limits import MIN_SEGMENT_BYTES
from cdr_plugin.parcel.receipt import Receipt
from cdr_plugin.parcel.version import SignedVersionRecord
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.parcel_writer import ParcelWriter
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.intake import MAX_SEGMENT_VERSIONS
from cdr_plugin.top.sender import SenderPass
from cdr_plugin.top.subject import Subject
from tests.reducing.worlds import branch_world, change
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers, opened_tiers


@pytest.fixture
def base() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder / "world"


def held(tiers: Tiers, name: str) -> int:
    """Segments of a client that it keeps still, since nobody has told it that they were taken."""
    client = client_tier(tiers.tier(name), installed())
    with closing(client.state):
        return len(client.state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN))


@pytest.mark.parametrize("layout", list(Layout))
def test_news_from_above_do_not_hide_what_was_taken(base: Path, layout: Layout) -> None:
    """Both are in one receipt, of which a client that is seldom online reads the newest."""
    tiers = branch_world(base, ["a"], retain=f', layout = "{layout}"')
    tiers.backup("a")
    tiers.deliver(2)
    assert tiers.states("a") == {1: VersionState.COMMITTED}
    assert held(tiers, "a") == 0


def opened(tiers: Tiers) -> ReducingTier:
    config = tiers.tier("branch")
    return next(iter(reducing_tiers(tiers.config, config, installed(), Reporter())))


def known_at(tiers: Tiers, name: str) -> set[str]:
    with opened_tiers(tiers, name) as found:
        (top,) = found
        return {client.name for client in top.register.clients("g")}


def test_a_client_whose_introduction_was_lost_is_introduced_again(base: Path) -> None:
    """What its tier passes on of it would be passed over above, without a word to anybody."""
    tiers = branch_world(base, ["a"])
    tiers.send("branch")
    tiers.receive("hq")
    tiers.send("a")
    tiers.receive("branch")
    (segment,) = (path for path in (base / "branch/state").rglob("*") if "spool" in path.parts and path.is_file())
    segment.write_bytes(b"damaged")
    for step in ("send", "receive", "send"):
        getattr(tiers, step)("branch")
    tiers.receive("hq")
    assert known_at(tiers, "hq") == {"branch", "a"}


def test_a_client_is_told_what_is_missing_above_and_not_here(base: Path) -> None:
    """Although nothing else is new to it."""
    tiers = branch_world(base, ["a"])
    tiers.deliver()
    tiers.backup("a")
    tiers.send("a")
    tiers.receive("branch")
    tiers.send("a")
    with closing(opened(tiers)) as branch:
        (client,) = branch.register.clients("g")
        state = branch.uplinks[0].state
        asked = [(BlobType(key[0]), BlobId(key[1:])) for key in branch.state.client(client.fingerprint).possessed()]
        state.advance(state.segments(SegmentState.SPOOLED), SegmentEvent.TAKE)
        state.take_relayed(client.fingerprint, Receipt(1 << 60, missing=asked[:1]))
        branch.told_news(client)  # by a pass that was at work meanwhile
    shutil.rmtree(base / "branch/state/g/retained")
    tiers.send("branch")
    assert tiers.send("a").segments_sent == 1


def test_no_segment_has_more_records_than_its_reader_takes(base: Path) -> None:
    tiers = branch_world(base, ["a"])
    tiers.send("a")
    tiers.receive("branch")
    with closing(opened(tiers)) as branch:
        (client,) = branch.register.clients("g")
        writer = ParcelWriter(branch.uplinks[0])
        for number in range(1, 2 * MAX_SEGMENT_VERSIONS):
            writer.version(client, number, SignedVersionRecord(b"%d" % number, bytes(64)))
        writer.flush()
        writer.close()
        row = branch.uplinks[0].state.segments(SegmentState.SPOOLED)[-1]
        assert row.index == 1
        told = branch.uplinks[0].state.told(client.fingerprint)
        assert len(told) == 2 * MAX_SEGMENT_VERSIONS - 1


def test_a_payload_of_which_a_part_is_lost_does_not_stay_in_the_inbox_above(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ParcelWriter.__init__.__kwdefaults__, "segment_bytes", MIN_SEGMENT_BYTES)
    tiers = branch_world(base, ["a"])
    tiers.backup("a")
    tiers.send("a")
    tiers.receive("branch")
    with closing(opened(tiers)) as branch:
        uplink = branch.uplinks[0]
        lost = [row for row in uplink.state.segments(SegmentState.SPOOLED) if row.index == 5]
        spool_path(uplink.spool, lost[0].parcel_id, 5).write_bytes(b"damaged")
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a"]})
    change(base, "a", 1)
    tiers.backup("a")
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a"]})
    assert [path for path in (base / "hq/inbox/clients").glob("*/*/*") if path.is_file()] == []


def test_a_checkpoint_tells_of_those_who_delivered_since_the_one_before(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tier may speak for a thousand clients."""
    tiers = branch_world(base)
    for name in ("a", "b"):
        tiers.backup(name)
    tiers.deliver()
    told: list[int] = []
    write = SenderPass._write_answers

    def counting(self: SenderPass, subjects: Sequence[Subject], *, final: bool) -> None:
        told.append(0 if final else len(subjects))
        write(self, subjects, final=final)

    monkeypatch.setattr(SenderPass, "_write_answers", counting)
    monkeypatch.setattr("cdr_plugin.top.sender.CHECKPOINT_BYTES", 1)
    for name in ("a", "b"):
        change(base, name, 1)
        tiers.backup(name)
        tiers.send(name)
    tiers.receive("branch")
    tiers.send("branch")
    told.clear()
    tiers.receive("hq")
    assert told.count(1) > 4
    assert told.count(2) <= 1  # where the one ends and the other begins
