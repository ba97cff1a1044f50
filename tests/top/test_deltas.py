"""Payloads that copy from other blobs: what the top tier makes of them, and whose blobs it reads for them."""

from __future__ import annotations

import os

import pytest

from cdr_plugin.model.blobs import BlobId, BlobType, Payload, blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.receipt import VersionState
from cdr_plugin.top.deltas import RECENT_BYTES
from cdr_plugin.top.verify import MAX_DELTA_BASES
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger, check_repository, dir_node, file_node, framed, plain, restic
from tests.top.copying import LABEL, appended, delta, encoded

TREE = BlobType.TREE
OLD = os.urandom(50_000)
NEW = OLD[:30_000] + b"changed" + OLD[30_000:]
UPON_OLD = delta(NEW, [OLD], (0, 0, 30_000), b"changed", (0, 30_000, 20_000))


def file_tree(**files: bytes) -> bytes:
    return encode_tree([file_node(name, data) for name, data in sorted(files.items())])


def send_file(client: Forger, payload: Payload, data: bytes) -> None:
    """A version of one file ``f`` with these bytes, delivered as ``payload``."""
    client.send_version([payload], file_tree(f=data))


def missing(client: Forger) -> set[tuple[BlobType, BlobId]]:
    return set(client.receipt().missing)


@pytest.fixture
def client(chain: Chain) -> Forger:
    """It has delivered ``OLD``, which is committed."""
    made = Forger(chain)
    send_file(made, framed(OLD), OLD)
    assert chain.receive().versions_stored == 1
    return made


# --- what comes out right


def test_a_delta_upon_a_committed_blob_becomes_that_blob(chain: Chain, client: Forger) -> None:
    send_file(client, UPON_OLD, NEW)
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.versions_stored, result.blobs_missing, result.rejected) == (1, 0, 0)
    assert seen.errors == []
    check_repository(chain)


def test_a_base_may_come_in_the_same_segment_or_an_earlier_one_and_be_a_delta_itself(chain: Chain) -> None:
    client = Forger(chain)
    third = NEW + b"more"
    tree = file_tree(a=OLD, b=NEW, c=third)
    signed = client.sign(client.record(tree))
    again = client.records(appended(third, NEW), plain(tree, TREE), signed)
    client.put_segments([client.records(framed(OLD), UPON_OLD), again])
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def test_bases_that_were_added_in_this_pass_are_found_when_memory_holds_them_no_more(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.deltas.RECENT_BYTES", 1000)
    assert RECENT_BYTES > 1000
    client = Forger(chain)
    others = [os.urandom(2000) for _ in range(20)]
    deltas = [appended(data + b"x", data) for data in others]
    tree = encode_tree([file_node(f"{at:02}", data + b"x") for at, data in enumerate(others)])
    client.send_version([*map(plain, others), *deltas], tree)
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def test_trees_are_deltas_upon_trees_committed_held_or_just_sent(chain: Chain, client: Forger) -> None:
    first = encode_tree([file_node("f", OLD), file_node("g", b"late")])
    second = encode_tree([file_node("f", OLD), file_node("g", b"late"), file_node("h", OLD)])
    root = [encode_tree([dir_node("d", first)]), encode_tree([dir_node("d", second)])]
    base = file_tree(f=OLD)
    client.send_version([appended(first, base, TREE)], root[0])
    assert chain.receive().versions_stored == 0  # "late" is missing: its trees are held
    chain.top.close()
    client.send_version([appended(second, first, TREE)], root[1])
    assert chain.receive().versions_stored == 0
    assert missing(client) == {(BlobType.DATA, blob_id(b"late"))}
    client.put_segments([client.records(plain(b"late"))])
    assert chain.receive().versions_stored == 2
    check_repository(chain)


def test_answers_without_a_version_record_complete_what_waits_for_them(chain: Chain, client: Forger) -> None:
    send_file(client, delta(NEW, [OLD], b"wrong"), NEW)
    chain.receive()
    assert client.version(2).state is VersionState.STORED and client.version(2).reason
    chain.top.close()
    chain.top = chain.new_top()
    client.put_segments([client.records(framed(NEW))])
    assert chain.receive().versions_stored == 1
    assert client.version(2).state is VersionState.COMMITTED
    assert missing(client) == set()


# --- what does not


WRONG = [
    delta(NEW, [OLD], (0, 0, len(NEW))),  # shorter than it declares
    delta(NEW, [OLD], (0, 0, 30_000), b"changes", (0, 30_000, 20_000)),  # a false match
    delta(NEW, [OLD], (0, 1 << 31, 1 << 31)),
    delta(NEW, [OLD], *[(0, 0, 50_000)] * 1000),  # far more than it declares
]


@pytest.mark.parametrize("payload", WRONG)
def test_a_delta_that_decodes_to_something_else_costs_that_blob_alone(
    chain: Chain, client: Forger, payload: Payload
) -> None:
    other = b"another file"
    client.send_version([payload, plain(other)], file_tree(f=NEW, g=other))
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.versions_stored, result.rejected) == (0, 0)
    assert sum("did not decode" in note for note in seen.notes) == 1
    assert missing(client) == {(BlobType.DATA, blob_id(NEW))}
    client.put_segments([client.records(framed(NEW))])
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def test_a_tree_that_restic_could_not_read_is_no_more_accepted_as_a_delta(chain: Chain, client: Forger) -> None:
    base = file_tree(f=OLD)
    bad = base.replace(b'"type":"file"', b'"type": "file"')
    client.send_version([appended(bad, base, TREE)], bad, with_tree=False)
    assert chain.receive().versions_stored == 0
    assert missing(client) == {(TREE, blob_id(bad))}


def test_payloads_that_are_no_deltas_at_all_reject_their_segment(chain: Chain, client: Forger) -> None:
    many = [blob_id(b"%d" % at) for at in range(MAX_DELTA_BASES + 1)]
    bad = [
        Payload(BlobType.DATA, blob_id(NEW), LABEL, len(NEW), b""),
        Payload(BlobType.DATA, blob_id(NEW), LABEL, len(NEW), b"\0\5short"),
        Payload(BlobType.DATA, blob_id(NEW), LABEL, len(NEW), encoded(BlobType.DATA, many)),
        Payload(BlobType.DATA, blob_id(NEW), LABEL, 1 << 40, UPON_OLD.data),
        Payload(BlobType.DATA, blob_id(NEW), LABEL, 0, UPON_OLD.data),
    ]
    for payload in bad:
        client.put_segments([client.records(payload)])
    assert chain.receive().rejected == len(bad)


def test_a_payload_may_read_what_it_names_and_not_without_end(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = [os.urandom(20_000) for _ in range(3)]
    client.send_version([plain(data) for data in big], encode_tree([file_node(f"{at}", d) for at, d in enumerate(big)]))
    chain.receive()
    monkeypatch.setattr("cdr_plugin.top.deltas.RECENT_BYTES", 30_000)
    monkeypatch.setattr("cdr_plugin.top.deltas._READ_BYTES", 100_000)
    new = b"".join(data[:99] for data in big) * 5
    again = delta(new, big, *[(at, 0, 99) for at in range(3)] * 5)  # each is read five times
    untyped = Payload(BlobType.DATA, blob_id(new), LABEL, len(new), encoded(TREE, [blob_id(big[0])], (0, 0, 15)))
    for payload in (again, untyped):
        client.put_segments([client.records(payload)])
    seen = Recorder()
    assert chain.receive(seen).blobs_new == 0
    assert [n for n in seen.notes if "2 payloads did not decode" in n and "more bytes than it may" in n], seen.notes


# --- whose blobs


def answer(chain: Chain, name: str, guess: bytes) -> tuple[list[str], list[str]]:
    """What client ``name`` is told, and the operator, when it copies from a blob that it guesses."""
    mallory = Forger(chain, name)
    stolen = b"prefix " + guess
    send_file(mallory, delta(stolen, [guess], b"prefix ", (0, 0, len(guess))), stolen)
    seen = Recorder()
    result = chain.receive(seen)
    receipt, [version] = mallory.receipt(), mallory.receipt().versions
    told = [f"{id_.hex()}" for _, id_ in receipt.missing]
    told += [f"{version.state} {version.reason} {result}", *seen.notes]
    found = {blob_id(guess).hex(): "GUESS", blob_id(stolen).hex(): "STOLEN", blob_id(stolen).hex()[:10]: "STOLEN"}
    for text, word in {**found, name: "NAME"}.items():
        told = [line.replace(text, word) for line in told]
    return sorted(told[:2]), told[2:]


def test_a_blob_of_another_client_is_as_missing_as_one_that_nobody_has(chain: Chain) -> None:
    victim = Forger(chain, "victim")
    send_file(victim, plain(b"the victim's secret"), b"the victim's secret")
    chain.receive()
    found = answer(chain, "mallory", b"the victim's secret")
    assert found == answer(chain, "malicia", b"nobody's secret....")
    assert found[0] == ["GUESS", "STOLEN"]


def test_what_a_client_did_not_deliver_itself_is_not_read_even_below_its_own_tree(chain: Chain) -> None:
    victim, mallory = Forger(chain, "victim"), Forger(chain)
    send_file(victim, plain(OLD), OLD)
    tree = file_tree(f=OLD)
    mallory.put_segments([mallory.records(plain(tree, TREE), UPON_OLD)])  # the tree is its own, what it names not
    assert chain.receive().blobs_new == 3
    assert missing(mallory) == {(BlobType.DATA, blob_id(OLD))}


def test_a_base_that_is_not_needed_any_more_is_asked_for_no_longer(chain: Chain, client: Forger) -> None:
    absent = b"never delivered"
    send_file(client, delta(NEW, [absent], b"x"), NEW)
    chain.receive()
    assert missing(client) == {(BlobType.DATA, blob_id(NEW)), (BlobType.DATA, blob_id(absent))}
    client.put_segments([client.records(framed(NEW))])  # the base is gone for good, the blob is not
    assert chain.receive().versions_stored == 1
    assert missing(client) == set()
    send_file(client, delta(OLD + b"!", [absent], b"x"), OLD + b"!")
    chain.receive()
    assert (BlobType.DATA, blob_id(absent)) in missing(client)


def test_what_was_pruned_is_no_base_and_both_are_asked_for(chain: Chain, client: Forger) -> None:
    send_file(client, plain(b"small"), b"small")
    chain.receive()
    tree = blob_id(file_tree(f=OLD)).hex()
    first = next(v.id for v in chain.top.open_repository().versions() if v.snapshot.tree == tree)
    restic(chain, "forget", first, "--prune")
    send_file(client, UPON_OLD, NEW)
    assert chain.receive().versions_stored == 0
    assert missing(client) == {(BlobType.DATA, blob_id(OLD)), (BlobType.DATA, blob_id(NEW))}
    client.put_segments([client.records(framed(OLD), UPON_OLD)])
    assert chain.receive().versions_stored == 1
    assert missing(client) == set()
    check_repository(chain)
