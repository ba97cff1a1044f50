"""A tier replaces its keys while parcels are under way: nothing is lost, what comes next is sealed to the newest."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cdr_plugin.client.resealing import reseal_waiting
from cdr_plugin.client.sweep import sweep
from cdr_plugin.errors import AuthenticationError, IntegrityError
from cdr_plugin.files import exclusive
from cdr_plugin.identity.keys import SealingKey
from cdr_plugin.identity.store import Identity
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.segment import open_segment
from tests.support.chain import Recorder
from tests.support.changing import change_small, small_tree
from tests.support.crashing import kill_at
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory

PHASES = 7
"""Of a branched hierarchy, see ``Hierarchy.phases``."""


@pytest.fixture
def quick_path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    make_quick(monkeypatch, segment_bytes=8 * 1024)
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def world(quick_path: Path) -> Hierarchy:
    """One version committed, and the source changed since."""
    small_tree(quick_path / "src")
    made = Hierarchy.make(quick_path / "world", quick_path / "src", branched=True)
    made.backup()
    made.deliver()
    made.assert_settled()
    change_small(made.source)
    return made


def identity(world: Hierarchy) -> Identity:
    return Identity.load(world.chain().top.identity_folder)


def rotate_sealing(world: Hierarchy) -> None:
    identity(world).rotate_sealing_key("g")


def rotate_signing(world: Hierarchy) -> None:
    identity(world).rotate_signing_key()


def rotate_both(world: Hierarchy) -> None:
    rotate_sealing(world)
    rotate_signing(world)


def keys_name(world: Hierarchy) -> str:
    return answer_name(folder_id(world.client().identity.signing.public, "g"), Answer.KEYS)


def opens(world: Hierarchy, key: SealingKey) -> bool:
    """Is everything in the client's spool sealed to this key?"""
    found = list(world.client().spool.iterdir())
    assert found
    for path in found:
        parcel, _, index = path.name.partition("-")
        try:
            open_segment(
                path.read_bytes(),
                group="g",
                keys=[key],
                accept=lambda _: None,
                parcel_id=bytes.fromhex(parcel),
                index=int(index, 16),
            )
        except AuthenticationError:
            return False
    return True


def assert_goes_on(world: Hierarchy) -> None:
    """What is under way arrives; the version after it is sealed to the newest key, and arrives as well."""
    world.deliver()
    world.deliver()
    tree = world.source_tree()
    world.assert_settled()
    assert world.snapshots()[max(world.versions())] == tree
    change_small(world.source)
    world.backup()
    assert opens(world, identity(world).sealing_key("g"))
    reporter = Recorder()
    world.send(reporter)
    world.deliver()
    assert reporter.errors == []
    world.assert_settled()
    assert world.snapshots()[max(world.versions())] == world.source_tree()
    world.check()


@pytest.mark.parametrize("rotate", [rotate_sealing, rotate_signing, rotate_both])
def test_keys_may_be_replaced_at_every_point_of_a_parcels_way(
    world: Hierarchy, rotate: Callable[[Hierarchy], None], quick_path: Path
) -> None:
    for point in range(PHASES + 1):
        one = world.copy(quick_path / f"world-{point}")
        for at, phase in enumerate(one.phases):
            if at == point:
                rotate(one)
            phase()
        if point == PHASES:
            rotate(one)
        one.deliver()
        one.assert_settled()
        one.deliver()
        assert identity(one).sealing_key("g").public == one.client().ticket.sealing
        assert identity(one).signing.public == one.client().ticket.issuer
        shutil.rmtree(one.base)


def test_keys_may_be_replaced_twice_while_one_parcel_is_under_way(world: Hierarchy, quick_path: Path) -> None:
    for first, second in list(itertools.combinations(range(PHASES), 2))[::2]:
        one = world.copy(quick_path / "again")
        for at, phase in enumerate(one.phases):
            if at in (first, second):
                rotate_both(one)
            phase()
        one.deliver()
        one.deliver()
        one.assert_settled()
        assert len(identity(one).sealing_keys("g")) == 3
        shutil.rmtree(one.base)


def test_after_a_rotation_the_next_parcel_is_sealed_to_the_newest_key(world: Hierarchy) -> None:
    world.backup()
    rotate_both(world)
    rotate_both(world)
    assert_goes_on(world)


def test_a_client_that_was_away_during_many_rotations_follows_the_whole_line(world: Hierarchy) -> None:
    world.backup()
    for _ in range(5):
        rotate_both(world)
        world.receive()
    world.client().state.close()
    assert_goes_on(world)


def test_a_receipt_that_was_not_read_before_the_rotation_is_written_anew(world: Hierarchy) -> None:
    world.backup()
    for phase in world.phases[1:5]:
        phase()
    rotate_signing(world)
    world.receive()
    world.branch_send()
    reporter = Recorder()
    world.send(reporter)
    assert reporter.errors == []
    assert world.committed().keys() == {1, 2}
    world.assert_settled()


def test_nothing_is_said_of_keys_that_were_never_replaced(world: Hierarchy) -> None:
    world.backup()
    world.deliver()
    assert not (world.chain().inbox / keys_name(world)).exists()


def test_keys_that_the_storage_loses_are_told_again(world: Hierarchy) -> None:
    rotate_both(world)
    world.receive()
    told = world.chain().inbox / keys_name(world)
    told.unlink()
    world.backup()
    world.deliver()
    assert told.exists()
    assert_goes_on(world)


def test_keys_told_before_are_refused_when_the_storage_replays_them(world: Hierarchy) -> None:
    rotate_sealing(world)
    world.backup()
    world.deliver()
    told = world.chain().lower / keys_name(world)
    old = told.read_bytes()
    rotate_sealing(world)
    world.receive()
    world.branch_send()
    world.send()
    newest = world.client().ticket.sealing
    assert newest == identity(world).sealing_key("g").public
    told.write_bytes(old)
    world.send()
    assert world.client().ticket.sealing == newest


def test_keys_of_somebody_else_are_refused(world: Hierarchy, quick_path: Path) -> None:
    stranger = Identity.create(quick_path / "stranger")
    rotate_both(world)
    before = world.client().ticket
    chain = world.chain()
    chain.top.__dict__["identity"] = stranger.rotate_signing_key()
    stranger.rotate_sealing_key("g")
    stranger.rotate_sealing_key("g")
    chain.receive()
    chain.top.close()
    world.branch_send()
    reporter = Recorder()
    world.send(reporter)
    assert any("is no successor of" in error and "ignored" in error for error in reporter.errors)
    assert (world.client().ticket.issuer, world.client().ticket.sealing) == (before.issuer, before.sealing)


def test_a_ticket_issued_before_a_rotation_still_enrols(world: Hierarchy) -> None:
    chain = world.chain()
    text = chain.top.issue_ticket()
    chain.top.close()
    rotate_both(world)
    rotate_both(world)
    bob = world.chain().client("bob")
    bob.init("UTC")
    bob.enroll(text, {"host": "bob"})
    chain = world.chain()
    chain.backup(bob, world.source)
    for _ in range(2):
        chain.deliver(bob)
    assert [row.state for row in bob.state.versions()] == ["committed"]
    assert bob.ticket.sealing == identity(world).sealing_key("g").public
    bob.state.close()
    chain.top.close()


def test_what_is_sealed_to_a_key_that_was_dropped_too_early_is_sealed_anew(world: Hierarchy) -> None:
    """Also when its files have changed since: the spool has all of it."""
    world.backup()
    captured = world.source_tree()
    (world.source / "sub" / "new").write_bytes(b"changed since")
    (world.source / "big").unlink()
    rotate_sealing(world)
    assert identity(world).drop_old_sealing_keys("g") == 1
    assert identity(world).has_rotated("g")
    for _ in range(3):
        world.deliver()
    world.assert_settled()
    assert world.snapshots()[2] == captured
    world.check()


def with_a_new_identity(world: Hierarchy) -> None:
    """The tier has lost its own, and the client has a ticket of the new one."""
    shutil.rmtree(world.chain().top.identity_folder)
    chain, client = world.chain(), world.client()
    chain.top.init()
    client.enroll(chain.top.issue_ticket(), {})
    client.state.close()
    chain.top.close()


def test_killed_at_any_moment_while_it_seals_anew_a_client_loses_nothing(
    world: Hierarchy, quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch, segment_bytes=48 * 1024)
    world.backup()
    captured = world.source_tree()
    world.send()
    (world.source / "sub" / "new").write_bytes(b"changed since")
    with_a_new_identity(world)
    for at in itertools.count(1):
        one = world.copy(quick_path / "killed")
        ended = kill_at(at, lambda one=one: reseal(one))
        reseal(one)
        sweep(one.client())
        assert opens(one, identity(one).sealing_key("g"))
        if at % 10 == 0 or not ended.killed:
            for _ in range(3):
                one.deliver()
            one.assert_settled()
            assert one.snapshots()[2] == captured
        shutil.rmtree(one.base)
        if not ended.killed:
            break
    assert at > 15


def reseal(world: Hierarchy) -> None:
    client = world.client()
    reseal_waiting(client, Recorder())
    client.state.close()


def test_a_client_seals_nothing_anew_while_a_backup_is_running(world: Hierarchy) -> None:
    world.backup()
    with_a_new_identity(world)
    client, reporter = world.client(), Recorder()
    with exclusive(client.state_folder / "backup.lock", "a backup"):
        reseal_waiting(client, reporter)
    assert "sealed anew later" in reporter.notes[0]
    assert not opens(world, identity(world).sealing_key("g"))
    reseal(world)
    assert opens(world, identity(world).sealing_key("g"))
    client.state.close()


def test_a_dropped_key_opens_nothing_and_dropping_again_changes_nothing(world: Hierarchy) -> None:
    rotate_sealing(world)
    rotate_sealing(world)
    assert identity(world).drop_old_sealing_keys("g") == 2
    assert identity(world).drop_old_sealing_keys("g") == 0
    assert len(identity(world).sealing_keys("g")) == 1
    with pytest.raises(IntegrityError, match="not readable here"):
        Identity.parse(Path(), "cdr-identity 3 x25519\n")
