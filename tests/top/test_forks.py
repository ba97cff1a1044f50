"""Two versions that follow the same one: two machines, an older state put back, or a lost one."""

from __future__ import annotations

import copy

import msgpack
import pytest

from cdr_plugin.model.blobs import BlobType, blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.head import HeadParcel
from cdr_plugin.parcel.naming import segment_name
from cdr_plugin.parcel.receipt import VersionState
from cdr_plugin.parcel.records import FIRST_PART, PART
from cdr_plugin.parcel.version import SignedVersionRecord
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger, check_repository, file_node, plain


@pytest.fixture
def client(chain: Chain) -> Forger:
    """It has three committed versions."""
    made = Forger(chain)
    for word in (b"one", b"two", b"three"):
        made.send_files(f=word)
    assert chain.receive().versions_stored == 3
    return made


def clone(client: Forger) -> Forger:
    """Another machine with the same identity and history."""
    made = copy.copy(client)
    made.parcels = []
    return made


def forget_history(client: Forger) -> Forger:
    made = clone(client)
    made.number, made.previous = 0, b""
    return made


def states(client: Forger) -> dict[bytes, tuple[int, VersionState]]:
    return {version.record: (version.number, version.state) for version in client.receipt().versions}


def test_versions_of_two_machines_in_turn_are_all_committed(chain: Chain, client: Forger) -> None:
    other = clone(client)
    sent: list[SignedVersionRecord] = []
    seen = Recorder()
    for turn in range(3):
        for machine, name in ((client, "a"), (other, "b")):
            machine.head_serial = max(client.head_serial, other.head_serial)
            sent.append(machine.send_files(f=f"{name} {turn}".encode()))
            assert chain.receive(seen).versions_stored == 1
    found = states(client)
    assert {found[signed.hash] for signed in sent} == {(n, VersionState.COMMITTED) for n in (4, 5, 6)}
    assert len(found) == 9
    assert sum("is a fork" in note for note in seen.notes) == 1  # where the two part, not at each version behind
    check_repository(chain)


def test_number_one_again_is_a_fork_too(chain: Chain, client: Forger) -> None:
    again = forget_history(client)
    first = again.send_files(f=b"again")
    second = again.send_files(f=b"and again")
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 2
    assert states(client)[first.hash] == (1, VersionState.COMMITTED)
    assert states(client)[second.hash] == (2, VersionState.COMMITTED)
    assert sum("is a fork" in note for note in seen.notes) == 1
    assert client.receipt().committed == 3


def test_the_newest_is_the_highest_number_and_of_several_the_last_that_was_committed(
    chain: Chain, client: Forger
) -> None:
    other = clone(client)
    ours = client.send_files(f=b"ours")
    chain.receive()
    other.head_serial = client.head_serial
    theirs = other.send_files(f=b"theirs")
    chain.receive()
    receipt = client.receipt()
    assert (receipt.committed, receipt.committed_record) == (4, theirs.hash)
    client.head_serial = other.head_serial
    next_one = client.send_files(f=b"ours again")
    chain.receive()
    assert client.receipt().committed_record == next_one.hash
    assert states(client)[ours.hash] == states(client)[theirs.hash] == (4, VersionState.COMMITTED)


def test_a_fork_that_came_before_its_predecessor_waits_for_it(chain: Chain, client: Forger) -> None:
    other = clone(client)
    client.send_files(f=b"four")
    chain.receive()
    trees = [encode_tree([file_node("f", data)]) for data in (b"4'", b"5'")]
    fourth = other.sign(other.record(trees[0]))
    other.follow(fourth)
    fifth = other.sign(other.record(trees[1]))
    other.head_serial = client.head_serial
    blobs = [*map(plain, (b"4'", b"5'")), *(plain(tree, BlobType.TREE) for tree in trees)]
    other.put_segments([other.records(*blobs, fifth)])
    assert chain.receive().versions_stored == 0
    other.put_segments([other.records(fourth)])
    assert chain.receive().versions_stored == 2
    check_repository(chain)


def test_both_sides_of_a_fork_survive_the_loss_of_the_top_tiers_state(chain: Chain, client: Forger) -> None:
    other = clone(client)
    client.send_files(f=b"ours")
    other.head_serial = client.head_serial
    other.send_files(f=b"theirs")
    assert chain.receive().versions_stored == 2
    chain.top.close()
    for path in (chain.base / "top-state").glob("state.db*"):
        path.unlink()
    client.head_serial = other.head_serial
    client.send_files(f=b"ours, later")
    other.head_serial = client.head_serial
    other.send_files(f=b"theirs, later")
    assert chain.receive().versions_stored == 2
    assert sorted(number for number, _ in states(client).values()) == [1, 2, 3, 4, 4, 5, 5]
    check_repository(chain)


def test_replayed_parcels_of_both_sides_change_nothing(chain: Chain, client: Forger) -> None:
    other = clone(client)
    sent = []
    for machine, word in ((client, b"ours"), (other, b"theirs")):
        machine.head_serial = max(client.head_serial, other.head_serial)
        machine.send_files(f=word)
        sent += [(path, path.read_bytes()) for path in chain.inbox.glob("clients/*/*/*") if path.is_file()]
        chain.receive()
    before = client.receipt().versions
    for path, data in sent:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    result = chain.receive()
    assert (result.versions_stored, result.blobs_new, result.segments) == (0, 0, 0)
    assert client.receipt().versions == before
    assert [path for path in chain.inbox.glob("clients/*/*/*") if path.is_file()] == []


def test_a_receipt_names_what_was_settled_last_whatever_its_number(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.answer._RECENT_VERSIONS", 2)
    again = forget_history(client)
    first = again.send_files(f=b"again")
    assert chain.receive().versions_stored == 1
    assert states(client)[first.hash] == (1, VersionState.COMMITTED)
    waits = again.send_version([], encode_tree([file_node("f", b"does not come")]))
    chain.receive()
    assert states(client)[waits.hash] == (2, VersionState.STORED)
    refused = again.send_version([], encode_tree([]), tags=["cdr-mine"])
    chain.receive()
    assert set(states(client)) == {waits.hash, refused.hash}


def test_a_payload_whose_rest_is_on_its_way_is_waited_for_behind_a_fork_too(chain: Chain, client: Forger) -> None:
    again = forget_history(client)
    big = bytes(range(250)) * 20
    parts = [
        msgpack.packb((FIRST_PART, 0, blob_id(big), "plain/1", len(big), len(big), big[:2500])),
        msgpack.packb((PART, 0, blob_id(big), 1, True, big[2500:])),
    ]
    tree = encode_tree([file_node("f", big)])
    signed = again.sign(again.record(tree))
    plaintexts = [again.records(parts[0]), again.records(parts[1], plain(tree, BlobType.TREE), signed)]
    parcel = again.parcel()
    for index, plaintext in enumerate(plaintexts):
        again.put(segment_name(again.folder, parcel.id, index), parcel.seal(index, plaintext))
        again.parcels = [HeadParcel(id=parcel.id, segments=index + 1, closed=index == 1)]
        again.put_head()
        assert chain.receive().segments == 2 * index
    assert states(client)[signed.hash] == (1, VersionState.COMMITTED)
    assert client.receipt().missing == []
    check_repository(chain)
