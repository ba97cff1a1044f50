"""The record of a version arrives whatever becomes of its segments; a number that was seen is not used again."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest

from cdr_plugin.client.receipts import apply_receipt
from cdr_plugin.client.replacing import drop_versions
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.state import ClientState
from cdr_plugin.client.states import SegmentState, VersionState
from cdr_plugin.parcel.receipt import ParcelReceipt, Receipt
from tests.support.chain import Recorder
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hierarchy]:
    """Version 1 is committed, and the source has changed since."""
    make_quick(monkeypatch)
    with folder_in_memory() as folder:
        (folder / "src").mkdir()
        made = Hierarchy.make(folder / "world", folder / "src")
        change(made, 1)
        made.backup()
        made.deliver()
        change(made, 2)
        yield made


def change(world: Hierarchy, seed: int) -> None:
    (world.source / f"file{seed}").write_bytes(random.Random(seed).randbytes(50_000))


def lose_segment(world: Hierarchy, at: int) -> None:
    """One of the spooled segments is gone, and a send has found out."""
    client = world.client()
    row = client.state.segments(SegmentState.SPOOLED)[at]
    spool_path(client.spool, row.parcel_id, row.index).unlink()
    client.state.close()
    world.send()


def drop(world: Hierarchy, number: int) -> None:
    client = world.client()
    drop_versions(client, number, force=False)
    client.state.close()


def test_a_lost_record_is_not_taken_back_with_a_version_that_was_made_since(world: Hierarchy) -> None:
    world.backup()
    lose_segment(world, -1)
    change(world, 3)
    world.backup()
    drop(world, 3)
    change(world, 4)
    world.backup()
    for _ in range(3):
        world.deliver()
    assert set(world.versions()) == {1, 2, 3}
    world.assert_settled()


@pytest.mark.parametrize("at", [3, -1], ids=["the record before", "where the last blob begins"])
def test_what_is_lost_while_a_version_is_captured_travels_anew(world: Hierarchy, at: int) -> None:
    world.backup()
    change(world, 3)
    capture = ClientState.capture

    def meanwhile(state: ClientState, *arguments: Any) -> None:
        lose_segment(world, at)
        capture(state, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClientState, "capture", meanwhile)
        world.backup()
    for _ in range(3):
        world.deliver()
    assert set(world.versions()) == {1, 2, 3}
    world.assert_settled()


def test_what_answers_lose_takes_no_record_of_a_version_that_has_not_begun_to_travel(world: Hierarchy) -> None:
    world.backup()
    client = world.client()
    answers = client.state.open_parcel(bytes(16), b"secret", answers=True)
    client.state.add_segment(answers, 0, 10, bytes(32), b"")
    client.state.lose(client.state.segments(SegmentState.SPOOLED)[0])
    assert client.state.versions_to_repeat() == []
    client.state.set_version(2, VersionState.IN_TRANSIT, "", "")
    client.state.add_segment(answers, 1, 10, bytes(32), b"")
    client.state.lose(client.state.segments(SegmentState.SPOOLED)[0])
    assert [row.number for row in client.state.versions_to_repeat()] == [2]
    client.state.close()


def test_a_spooled_segment_that_cannot_be_read_travels_anew(world: Hierarchy) -> None:
    world.backup()
    client = world.client()
    row = client.state.segments(SegmentState.SPOOLED)[1]
    path = spool_path(client.spool, row.parcel_id, row.index)
    client.state.close()
    path.unlink()
    path.symlink_to(path)
    for _ in range(3):
        world.deliver()
    assert set(world.versions()) == {1, 2}
    world.assert_settled()


def test_what_arrived_before_a_segment_that_is_lost_for_good_is_not_on_its_way(world: Hierarchy) -> None:
    """Blobs in it that cannot be decoded above would be waited for, and never be wanted."""
    world.backup()
    lose_segment(world, 2)
    client = world.client()
    rows = client.state.segments(SegmentState.SENT)
    serial = int(client.state.get("receipt_serial") or b"0") + 1
    apply_receipt(client, Receipt(serial, [ParcelReceipt(rows[0].parcel_id, 0, b"", [], [2])]), Recorder())
    assert [row.index for row in client.state.segments(SegmentState.TAKEN)] == [0, 1]
    assert [row.index for row in client.state.segments(SegmentState.SENT)] == [3]
    client.state.close()
