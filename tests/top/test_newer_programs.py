"""Objects of a newer program, at every role: they stay where they are and are reported, and all else goes on.

Once the role is upgraded (here: once the object is one that it knows) nothing is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.naming import Answer, answer_name, enrolment_name, folder_id, head_name
from cdr_plugin.parcel.version import SignedVersionRecord
from tests.support.chain import Chain, Recorder
from tests.support.changing import change_small, small_tree
from tests.support.forger import Forger, file_node, plain
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hierarchy]:
    """A client with one version committed, keys of the tier rotated, and another version under way."""
    make_quick(monkeypatch, segment_bytes=8 * 1024)
    with folder_in_memory() as folder:
        small_tree(folder / "src")
        made = Hierarchy.make(folder / "world", folder / "src", branched=True)
        made.backup()
        made.deliver()
        made.chain().top.identity.rotate_sealing_key("g")
        made.deliver()
        change_small(made.source)
        made.backup()
        yield made


def folder_name(world: Hierarchy) -> str:
    return folder_id(world.client().identity.signing.public, "g")


def made_newer(path: Path) -> tuple[bytes, bytes]:
    """What it was, and what it is now. A new file: another name may share its bytes."""
    old = path.read_bytes()
    new = b"\2" + old[1:]
    path.unlink()
    path.write_bytes(new)
    return old, new


def put_back(path: Path, data: bytes) -> None:
    path.unlink()
    path.write_bytes(data)


def mentions(said: list[str], name: str) -> bool:
    return any(name in line and "known; left where it is" in line for line in said)


def assert_ends_well(world: Hierarchy) -> None:
    for _ in range(2):
        world.deliver()
    world.assert_settled()
    assert world.snapshots()[max(world.versions())] == world.source_tree()
    world.check()


@pytest.mark.parametrize("answer", [Answer.RECEIPT, Answer.STANDING, Answer.KEYS])
def test_a_client_leaves_newer_answers_and_goes_on_sending(world: Hierarchy, answer: Answer) -> None:
    path = world.chain().lower / answer_name(folder_name(world), answer)
    old, new = made_newer(path)
    reporter = Recorder()
    world.send(reporter)
    assert mentions(reporter.errors, path.name)
    assert path.read_bytes() == new
    assert world.client().state.queue() == (0, 0)
    put_back(path, old)
    assert_ends_well(world)


def test_a_client_leaves_a_newer_baseline(world: Hierarchy) -> None:
    path = world.chain().lower / answer_name(folder_name(world), Answer.BASELINE)
    path.write_bytes(b"\2\3\1\0whatever a newer program says")
    reporter = Recorder()
    world.send(reporter)
    assert mentions(reporter.errors, "baseline")
    assert path.exists()
    assert_ends_well(world)


def test_a_tier_that_moves_objects_leaves_a_newer_head_and_moves_the_segments(world: Hierarchy) -> None:
    world.send()
    path = world.chain().lower / head_name(folder_name(world))
    old, new = made_newer(path)
    reporter = Recorder()
    world.branch_receive(reporter)
    assert any("its format is not known; left where it is" in line for line in reporter.errors)
    assert path.read_bytes() == new
    world.branch_send()
    assert (world.chain().inbox / head_name(folder_name(world))).read_bytes()[0] == 1
    put_back(path, old)
    assert_ends_well(world)


def test_a_tier_that_moves_objects_passes_newer_segments_and_answers_on_unopened(world: Hierarchy) -> None:
    world.send()
    for path in world.chain().lower.glob("clients/*/*/*"):
        made_newer(path)
    told = world.chain().inbox / answer_name(folder_name(world), Answer.STANDING)
    _, new = made_newer(told)
    reporter = Recorder()
    world.branch_receive(reporter)
    world.branch_send(reporter)
    assert reporter.errors == []
    assert {path.read_bytes()[0] for path in world.chain().inbox.glob("clients/*/*/*")} == {2}
    assert (world.chain().lower / told.relative_to(world.chain().inbox)).read_bytes() == new


@pytest.mark.parametrize("which", [0, -1])
def test_the_top_tier_leaves_a_newer_segment_and_commits_once_it_knows_it(world: Hierarchy, which: int) -> None:
    world.send()
    world.branch_receive()
    world.branch_send()
    segments = sorted(world.chain().inbox.glob("clients/*/*/*"))
    path = segments[which]
    old, new = made_newer(path)
    reporter = Recorder()
    world.receive(reporter)
    assert any("is not known; left where it is" in line for line in reporter.notes)
    assert path.read_bytes() == new
    assert 2 not in world.snapshots()
    put_back(path, old)
    assert_ends_well(world)


def test_the_top_tier_leaves_a_newer_head_and_takes_the_segments(world: Hierarchy) -> None:
    world.send()
    world.branch_receive()
    world.branch_send()
    path = world.chain().inbox / head_name(folder_name(world))
    _, new = made_newer(path)
    reporter = Recorder()
    world.receive(reporter)
    assert any("is not known; left where it is" in line for line in reporter.errors)
    assert path.read_bytes() == new
    assert 2 in world.snapshots()


def test_the_top_tier_leaves_a_newer_request_and_redeems_it_later(world: Hierarchy) -> None:
    bob = world.chain().client("bob")
    bob.init("UTC")
    bob.enroll(world.chain().top.issue_ticket(), {})
    request = bob.state.get("enrolment") or b""
    name = enrolment_name(folder_id(bob.identity.signing.public, "g"), request)
    path = world.chain().inbox / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\2" + request[1:])
    reporter = Recorder()
    world.receive(reporter)
    assert mentions(reporter.errors, path.name)
    assert path.exists()
    path.write_bytes(request)
    world.receive()
    assert not path.exists()
    assert [client.name for client in world.chain().top.register.clients("g")] == ["alice", "bob"]


@pytest.mark.parametrize("name", ["clients/{}/manifest-2", "clients/{}/{}/00000000.delta", "answers/{}/news"])
def test_objects_with_names_of_a_newer_program_stay_everywhere(world: Hierarchy, name: str) -> None:
    """Whoever lists the folder reports them; a client and a top tier list no answers."""
    relative = name.format(folder_name(world), "ab" * 16)
    there = [inbox / relative for inbox in (world.chain().lower, world.chain().inbox)]
    for path in there:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\2\7news")
    branch, top = Recorder(), Recorder()
    world.send()
    world.branch_receive(branch)
    world.branch_send(branch)
    world.receive(top)
    for reporter in (branch,) if relative.startswith("answers") else (branch, top):
        assert any(relative in line and "left where it is" in line for line in reporter.errors)
    assert [path.read_bytes() for path in there] == [b"\2\7news"] * 2
    for path in there:
        path.unlink()
    assert_ends_well(world)


def test_a_version_record_of_a_newer_program_keeps_its_segment_in_the_inbox(chain: Chain) -> None:
    """It may say what this program would lose."""
    client = Forger(chain)
    client.send_files(a=b"first")
    chain.receive()
    tree = encode_tree([file_node("b", b"second")])
    known = client.sign(client.record(tree))
    body = msgspec.msgpack.encode({**msgspec.msgpack.decode(known.body), "format": 2, "consistency": "vss"})
    newer = SignedVersionRecord(body, client.key.sign(b"cdr/1 version record", body))
    (path,) = client.put_segments([client.records(plain(b"second"), plain(tree, BlobType.TREE), newer)])
    client.put_head()
    reporter = Recorder()
    assert chain.receive(reporter).versions_stored == 0
    assert any("format 2 is not known; left where it is" in line for line in reporter.notes)
    assert path.exists()
    assert client.receipt().parcels[-1].taken == 0
