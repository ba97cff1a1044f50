"""The limit of an inbox: senders wait, nobody is lost, and a full inbox never waits for itself."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_local.plugin import LocalPlugin
from cdr_plugin.client.send import SendResult
from cdr_plugin.client.spooler import spool_path
from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.errors import RemoteError, StorageFullError
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.identity.register import ClientState
from cdr_plugin.inbox_limit.gauge import Gauge
from cdr_plugin.parcel.layout import Layout
from cdr_plugin.parcel.naming import folder_id, plain_room_name, room_name, segment_name
from cdr_plugin.parcel.room import UNVERIFIED_S, Room, write_plain_room, write_room
from cdr_plugin.top.room import post_notes
from cdr_plugin.transports.faults import Fault, FaultyTransport, Kind
from tests.support.chain import Recorder
from tests.support.faulty import FaultyPlugins
from tests.support.hierarchy import Hierarchy, make_quick

KIB = 1024
LIMIT = 100 * KIB
ROOM = LIMIT - LIMIT // 20
"""What ordinary segments may fill."""


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    """A source of 300 KiB that do not compress, segments of 16 KiB, and an inbox for 100 KiB."""
    make_quick(monkeypatch)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(30):
        (source / f"{number}").write_bytes(random.Random(number).randbytes(10 * KIB))
    made = Hierarchy.make(tmp_path / "world", source)
    post(made)
    return made


def post(world: Hierarchy, limit: int | None = LIMIT) -> None:
    chain = world.chain()
    post_notes(chain.top, limit, Layout.PER_CLIENT, Recorder())
    chain.top.close()


def filled(world: Hierarchy) -> int:
    return sum(path.stat().st_size for path in world.chain().inbox.glob("clients/*/*/*") if path.is_file())


def fill(world: Hierarchy, folder: str, size: int) -> Path:
    """Something of somebody's that takes room."""
    path = world.chain().inbox / segment_name(folder, os.urandom(16), 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(size))
    return path


def bob(world: Hierarchy) -> str:
    """The folder of another client whom the top tier knows."""
    chain = world.chain()
    client = chain.new_client("bob")
    chain.send(client)
    chain.receive()
    client.state.close()
    chain.top.close()
    return folder_id(client.identity.signing.public, chain.group)


def test_a_version_larger_than_the_inbox_goes_through_it_in_pieces(world: Hierarchy) -> None:
    world.backup()
    rounds = 0
    while True:
        result = world.send()
        assert filled(world) <= ROOM
        if not result.segments_waiting:
            break
        assert result.waiting_for.startswith("waiting for room in the inbox (")
        assert result.segments_sent
        world.receive()
        post(world)
        rounds += 1
    assert rounds >= 3
    world.receive()
    world.send()
    world.assert_settled()


@pytest.mark.parametrize("spooled", [True, False], ids=["the segment again", "its blobs from the source"])
def test_what_was_asked_for_uses_the_reserve_of_a_full_inbox(world: Hierarchy, spooled: bool) -> None:
    """Else the version would wait for an inbox that waits for the version."""
    post(world, None)
    other = bob(world)
    world.backup()
    world.send()
    lost = sorted(world.chain().inbox.glob("clients/*/*/*"))[2]
    lost.unlink()
    world.receive()
    if not spooled:
        spool_path(world.client().spool, bytes.fromhex(lost.parent.name), int(lost.name, 16)).unlink()
    (world.source / "new").write_bytes(random.Random("new").randbytes(40 * KIB))
    world.backup()
    stays = fill(world, other, ROOM - filled(world))  # of a format that is not known here: not even the tier takes it
    post(world)
    results = [world.send(), world.send()]
    assert all("waiting for room in the inbox" in result.waiting_for for result in results)
    assert sum(result.segments_sent for result in results) in (1, 2)
    assert results[-1].segments_waiting
    world.receive()
    assert world.snapshots().keys() == {1}
    assert stays.exists()
    stays.unlink()
    post(world)
    world.deliver()
    world.assert_settled()


def test_unknown_and_revoked_senders_cannot_fill_an_inbox_for_others(world: Hierarchy) -> None:
    other = bob(world)
    chain = world.chain()
    (client,) = [one for one in chain.top.register.clients() if one.name == "bob"]
    chain.top.register.set_state(client.fingerprint, client.group, ClientState.REVOKED)
    chain.top.close()
    strangers = [fill(world, other, 10 * LIMIT), fill(world, "0" * 32, 10 * LIMIT)]
    recorder = Recorder()
    post_notes(world.chain().top, LIMIT, Layout.PER_CLIENT, recorder)
    assert "bytes are of unknown senders" in recorder.notes[0]
    world.backup()
    result = world.send()
    ours = filled(world) - 20 * LIMIT
    assert ROOM - LIMIT // 20 - 20 * KIB < ours <= ROOM - LIMIT // 20  # theirs count for a twentieth
    assert result.segments_waiting
    world.receive()
    assert all(path.exists() for path in strangers)


def test_a_full_storage_is_waited_for(world: Hierarchy, monkeypatch: pytest.MonkeyPatch) -> None:
    post(world, None)
    world.backup()
    full = StorageFullError("no space left")
    faults = [Fault(Kind.BEFORE, "put_file", skip=2, error=full), Fault(Kind.BEFORE, "put", "*/head", error=full)]
    with monkeypatch.context() as patch:
        patch.setattr("tests.support.chain.installed", lambda: FaultyPlugins(faults))
        result = world.send()
    assert faults == []
    assert (result.segments_sent, result.waiting_for) == (
        2,
        "waiting for room in the storage above: no space left",
    )
    world.deliver()
    world.assert_settled()


# --- notes ---


def write(world: Hierarchy, name: str, data: bytes) -> None:
    path = world.chain().inbox / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def full(serial: int = 0, time_s: float | None = None) -> Room:
    return Room(limit=0, used=0, ignored=0, time_s=int(time.time() if time_s is None else time_s), serial=serial)


def sent(world: Hierarchy, recorder: Recorder | None = None) -> SendResult:
    """With something in the inbox, so that a limit of 0 holds up what comes."""
    fill(world, "0" * 32, 1)
    world.backup()
    return world.send(recorder)


@pytest.mark.parametrize("kind", ["another's", "a replay", "garbage"])
def test_only_the_newest_note_of_the_tier_itself_counts(world: Hierarchy, kind: str) -> None:
    chain = world.chain()
    name = room_name(chain.group)
    signing = SigningKey.generate() if kind == "another's" else chain.top.identity.signing
    note = b"\1\2" * 100 if kind == "garbage" else write_room(full(serial=1), signing, group=chain.group)
    world.backup()
    assert world.send().segments_waiting  # has seen the tier's own
    write(world, name, note)
    write(world, plain_room_name(), write_plain_room(full()))  # does not count where another was seen
    recorder = Recorder()
    assert world.send(recorder).segments_waiting == 0
    assert any(name in error and "ignored" in error for error in recorder.errors)


def test_a_plain_note_counts_for_a_while_where_no_tier_has_signed_one(world: Hierarchy) -> None:
    post(world, None)
    write(world, plain_room_name(), write_plain_room(full()))
    assert sent(world).waiting_for
    for time_s in (time.time() - UNVERIFIED_S - 60, time.time() + 90000):
        write(world, plain_room_name(), write_plain_room(full(time_s=time_s)))
        if not world.send().segments_waiting:
            break
    assert world.send().segments_waiting == 0


def test_a_limit_that_was_removed_holds_up_nobody(world: Hierarchy) -> None:
    world.backup()
    assert world.send().segments_waiting
    post(world, None)
    assert not (world.chain().inbox / room_name(world.chain().group)).exists()
    assert world.send().segments_waiting == 0


# --- the gauge ---


class Unlisted(FaultyTransport):
    """May not be listed."""

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        raise RemoteError("permission denied")


def test_where_nothing_can_be_listed_the_note_and_what_we_put_count(tmp_path: Path) -> None:
    with Unlisted(LocalPlugin().open(str(tmp_path / "storage"), {}, create=True)) as storage:
        gauge = Gauge(storage, Room(limit=1000, used=500, ignored=0, time_s=0))
        assert gauge.has_room(450)
        gauge.put(450)
        assert not gauge.has_room(1)
        assert gauge.has_room(1000, is_answer=True)
        gauge.put(50)
        assert not gauge.has_room(1, is_answer=True)


def test_a_segment_larger_than_the_limit_fits_into_an_empty_inbox(tmp_path: Path) -> None:
    with LocalPlugin().open(str(tmp_path / "storage"), {}, create=True) as storage:
        storage.put(f"clients/{'0' * 32}/head", bytes(100))  # heads take no room
        gauge = Gauge(storage, Room(limit=10, used=0, ignored=0, time_s=0))
        assert gauge.has_room(1000)
        storage.put(segment_name("0" * 32, bytes(16), 0), b"x")
        gauge.put(1)
        assert not gauge.has_room(1000)
        storage.delete(segment_name("0" * 32, bytes(16), 0))
        assert gauge.has_room(1000)  # looked again before it said no


def test_a_tier_without_a_limit_leaves_no_note(world: Hierarchy) -> None:
    post(world, None)
    assert [path for path in world.chain().inbox.glob("notes/**/*") if path.is_file()] == []
