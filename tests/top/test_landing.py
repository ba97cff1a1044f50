"""Target reduction: what has landed is acknowledged, survives kills, and ends as if it had been reduced inline."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from cdr_plugin.client.states import SegmentState, VersionState
from cdr_plugin.identity.register import ClientState
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.landed import landed_bytes
from cdr_plugin.top.landing import Landed, land
from tests.support.chain import Recorder
from tests.support.crashing import kill_at
from tests.support.hierarchy import Hierarchy, make_quick

WORDS = Random(11)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    make_quick(monkeypatch)
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "old").write_bytes(WORDS.randbytes(30_000))
    (source / "folder" / "kept").write_bytes(WORDS.randbytes(40_000))
    return Hierarchy.make(tmp_path / "world", source)


def landing(world: Hierarchy, reporter: Reporter | None = None) -> Landed:
    chain = world.chain()
    try:
        return land(chain.top, reporter or Reporter())
    finally:
        chain.top.close()


def segments_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("clients/*/*/*") if path.is_file()]


def client_versions(world: Hierarchy) -> dict[int, VersionState]:
    client = world.client()
    found = {row.number: row.state for row in client.state.versions()}
    client.state.close()
    return found


def unanswered(world: Hierarchy) -> int:
    """Segments that the client does not know to be durable above."""
    client = world.client()
    count = len(client.state.segments(SegmentState.SPOOLED, SegmentState.SENT))
    client.state.close()
    return count


def test_landing_empties_the_inbox_and_the_client_hears_stored_not_committed(world: Hierarchy) -> None:
    world.backup()
    world.send()
    sent = len(segments_in(world.chain().inbox))
    result = landing(world)
    assert (result.segments, result.inboxes_failed) == (sent, 0) and sent > 3
    assert segments_in(world.chain().inbox) == []
    assert len(segments_in(world.chain().top.landing)) == sent
    assert landed_bytes(world.chain().top) == result.bytes
    world.send()
    assert client_versions(world) == {1: VersionState.STORED}
    assert unanswered(world) == 0
    assert world.snapshots() == {}


def test_reducing_later_ends_as_inline(world: Hierarchy) -> None:
    for number in range(3):
        (world.source / f"more{number}").write_bytes(WORDS.randbytes(20_000))
        world.backup()
        world.send()
        landing(world)
    world.send()
    assert set(client_versions(world).values()) == {VersionState.STORED}
    world.receive()
    world.send()
    world.assert_settled()
    assert landed_bytes(world.chain().top) == 0
    world.check()
    world.assert_restic_agrees()


def test_what_came_since_is_reduced_with_what_has_landed(world: Hierarchy) -> None:
    world.backup()
    world.send()
    landing(world)
    (world.source / "more").write_bytes(WORDS.randbytes(20_000))
    world.backup()
    world.send()
    world.receive()  # one version lies in the landing, one in the inbox
    world.send()
    world.assert_settled()


def test_release_stored_frees_the_spool_at_the_landing(world: Hierarchy) -> None:
    world.backup()
    world.send()
    landing(world)
    client = world.client()
    client.release = "stored"
    world.chain().send(client)
    assert client.state.holdings.size() == 0
    client.state.close()
    world.receive()
    world.send()
    assert world.committed() == world.versions()


def test_a_damaged_segment_stays_in_the_inbox_for_the_pass_to_refuse(world: Hierarchy) -> None:
    world.backup()
    world.send()
    victim = segments_in(world.chain().inbox)[0]
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.unlink()
    victim.write_bytes(data)
    landing(world)
    assert segments_in(world.chain().inbox) == [victim]
    seen = Recorder()
    world.receive(seen)
    assert any("is damaged or does not belong here" in error for error in seen.errors), seen.errors
    for _ in range(2):
        world.send()
        landing(world)
        world.receive()
    world.send()
    world.assert_settled()


def test_segments_of_strangers_and_of_revoked_clients_do_not_land(world: Hierarchy) -> None:
    world.backup()
    world.send()
    landing(world)
    (world.source / "more").write_bytes(b"more")
    world.backup()
    world.send()
    chain = world.chain()
    (client,) = chain.top.register.clients("g")
    chain.top.register.set_state(client.fingerprint, "g", ClientState.REVOKED)
    stranger = chain.inbox / "clients" / ("ab" * 16) / ("cd" * 16)
    stranger.mkdir(parents=True)
    (stranger / "00000000").write_bytes(b"rubbish")
    chain.top.close()
    before = len(segments_in(chain.top.landing))
    landing(world)
    assert (stranger / "00000000").exists()
    assert not (chain.top.landing / "clients" / ("ab" * 16)).exists()
    assert len(segments_in(chain.top.landing)) == before


def test_a_lost_state_costs_a_resend_and_no_version(world: Hierarchy) -> None:
    world.backup()
    world.deliver()
    (world.source / "more").write_bytes(WORDS.randbytes(30_000))
    world.backup()
    world.send()
    landing(world)
    world.send()
    shutil.rmtree(world.chain().top.state_folder)
    for _ in range(3):
        world.receive()
        world.send()
    world.receive()
    world.send()
    assert world.snapshots() == world.versions()
    world.check()


def test_killed_at_any_durable_operation_of_landing_and_reducing_nothing_is_lost(
    world: Hierarchy, tmp_path: Path
) -> None:
    world.backup()
    world.deliver()
    (world.source / "more").write_bytes(WORDS.randbytes(20_000))
    world.backup()
    world.send()
    killed = 0
    for name, action in (("land", landing), ("reduce", Hierarchy.receive)):
        at = 0
        while True:
            at += 3
            other = world.copy(tmp_path / f"{name}{at}")
            if name == "reduce":
                landing(other)
            counted = kill_at(at, lambda action=action, other=other: action(other))  # type: ignore[misc,operator]
            killed += counted.killed
            landing(other)
            other.receive()
            other.send()
            other.assert_settled()
            assert landed_bytes(other.chain().top) == 0
            shutil.rmtree(other.base)
            if not counted.killed:
                break
    assert killed > 10


def test_a_quota_counts_what_has_landed_and_the_rest_stays_in_the_inbox(world: Hierarchy) -> None:
    world.backup()
    world.send()
    sizes = sorted(path.stat().st_size for path in segments_in(world.chain().inbox))
    chain = world.chain()
    chain.top.quota = sum(sizes) - 1
    first = land(chain.top, seen := Recorder())
    assert 0 < first.segments < len(sizes)
    assert any("above its quota" in error for error in seen.errors)
    assert land(chain.top, Reporter()).segments == 0
    chain.top.quota = None
    assert land(chain.top, Reporter()).segments == len(sizes) - first.segments
    chain.top.close()
    world.receive()
    world.send()
    world.assert_settled()
