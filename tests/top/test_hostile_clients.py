"""What clients could make the top tier spend: memory between checkpoints, reads of bases, passes, rows in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

import pytest

from cdr_local.transport import LocalTransport
from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.model.blobs import BlobType, Payload, blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.receipt import VersionState
from cdr_plugin.parcel.records import Preamble
from cdr_plugin.parcel.version import chunker_id
from cdr_plugin.top.inbox import Inboxes
from cdr_plugin.top.receive import _one_pass
from cdr_plugin.top.result import ReceiveResult
from cdr_plugin.top.state import ClientRows, TakenSegment
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger, check_repository, file_node, framed, plain
from tests.top.copying import LABEL, appended, delta, encoded

TREE = BlobType.TREE


@pytest.fixture
def client(chain: Chain) -> Forger:
    return Forger(chain)


@pytest.fixture
def peaks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of held trees and of missing blobs that were in memory at each checkpoint."""
    found: list[int] = []
    real = ClientRows.checkpoint

    def checkpoint(rows: ClientRows) -> None:
        found.append(len(rows._held) + len(rows._missing))
        real(rows)

    monkeypatch.setattr(ClientRows, "checkpoint", checkpoint)
    return found


def test_deltas_that_unfold_to_much_more_are_written_out_one_by_one(
    chain: Chain, client: Forger, peaks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = encode_tree([file_node(f"{at:04}", os.urandom(8)) for at in range(100)])
    trees = [first.replace(b'"0099"', b'"0099~%02d"' % at) for at in range(20)]
    monkeypatch.setattr("cdr_plugin.top.sender.CHECKPOINT_BYTES", 2 * len(first))
    client.put_segments([client.records(plain(first, TREE), *(appended(tree, first, TREE) for tree in trees))])
    assert chain.receive().blobs_new == 21
    assert max(peaks) <= 3


def test_bases_that_nobody_has_do_not_pile_up_in_memory(
    chain: Chain, client: Forger, peaks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.sender.CHECKPOINT_BYTES", 100 * 512)
    new = os.urandom(3000)
    absent = [[blob_id(os.urandom(8)) for _ in range(50)] for _ in range(30)]
    bad = [Payload(BlobType.DATA, blob_id(new), LABEL, len(new), encoded(BlobType.DATA, ids)) for ids in absent]
    client.put_segments([client.records(*bad)])
    assert chain.receive().blobs_new == 0
    assert max(peaks) <= 200
    assert len(client.receipt().missing) == 1500


def test_tiny_deltas_upon_large_bases_make_a_pass_read_only_so_much(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = [os.urandom(20_000) for _ in range(4)]
    client.send_version([plain(data) for data in big], encode_tree([file_node(f"{at}", d) for at, d in enumerate(big)]))
    chain.receive()
    monkeypatch.setattr("cdr_plugin.top.deltas.RECENT_BYTES", 30_000)
    monkeypatch.setattr("cdr_plugin.top.deltas.PASS_BYTES", 200_000)
    read: list[str] = []
    wrong = [delta(b"%03d" % at, [big[at % 4]], (0, 0, 3)) for at in range(100)]
    good = b"".join(data[:99] for data in big)
    signed_tree = encode_tree([file_node("f", good)])
    upon = delta(good, big, *[(at, 0, 99) for at in range(4)])
    count_reads(monkeypatch, read)
    client.send_version([*wrong, upon], signed_tree)
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 0
    assert len(read) <= 11, len(read)
    assert (BlobType.DATA, blob_id(good)) in client.receipt().missing
    assert not {blob_id(data) for data in big} & {id_ for _, id_ in client.receipt().missing}
    client.put_segments([client.records(framed(good))])
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def test_what_deltas_unfold_to_in_a_pass_is_limited(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = os.urandom(50_000)
    client.send_version([plain(old)], encode_tree([file_node("f", old)]))
    chain.receive()
    monkeypatch.setattr("cdr_plugin.top.deltas.PASS_BYTES", 220_000)
    news = [old + b"%d" % at for at in range(9)]
    tree = encode_tree([file_node(f"{at}", new) for at, new in enumerate(news)])
    client.send_version([appended(new, old) for new in news], tree)
    assert chain.receive().blobs_new == 4 + 1  # one base is read; the tree is no delta
    assert len(client.receipt().missing) == 5
    client.put_segments([client.records(*map(framed, news))])
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def count_reads(monkeypatch: pytest.MonkeyPatch, read: list[str]) -> None:
    from cdr_plugin.top.deltas import Deltas

    real = Deltas._read

    def counted(deltas: Deltas, type_: BlobType, id_: object) -> bytes:
        read.append(str(id_))
        return real(deltas, type_, id_)  # type: ignore[arg-type]

    monkeypatch.setattr(Deltas, "_read", counted)


def test_versions_behind_one_that_waits_for_its_predecessor_cause_no_pass_either(chain: Chain, client: Forger) -> None:
    client.send_files(f=b"one")
    chain.receive()
    trees = [encode_tree([file_node("f", data)]) for data in (b"2", b"3", b"4")]
    records = []
    for tree in trees:
        signed = client.sign(client.record(tree))
        client.follow(signed)
        records.append(signed)
    blobs = [*map(plain, (b"2", b"3", b"4")), *(plain(tree, TREE) for tree in trees)]
    client.put_segments([client.records(*blobs, *records[1:])])
    assert chain.receive().versions_stored == 0
    assert client.version(4).state is VersionState.STORED and client.version(4).reason
    before = client.receipt().serial
    assert chain.receive().versions_stored == 0
    assert client.receipt().serial == before
    client.put_segments([client.records(records[0])])
    assert chain.receive().versions_stored == 3
    check_repository(chain)


def test_answers_that_come_when_the_time_is_up_still_complete_their_version(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = encode_tree([file_node("f", b"late"), file_node("g", b"later")])
    client.send_version([], tree)
    assert chain.receive().versions_stored == 0
    monkeypatch.setattr("cdr_plugin.top.receive.LOCK_S", -1.0)
    client.put_segments([client.records(plain(b"late")), client.records(plain(b"later"))])
    assert chain.receive().versions_stored == 1
    assert client.version(1).state is VersionState.COMMITTED


def test_who_sends_more_than_a_pass_takes_delays_the_others_by_one_pass(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of empty segments, by somebody whose turn is first."""
    mallory, other = Forger(chain, "a-mallory"), Forger(chain, "other")
    mallory.put_segments([mallory.records()] * 30)
    other.send_files(a=b"1")
    monkeypatch.setattr("cdr_plugin.top.receive.LOCK_S", -1.0)
    taken = _passes_until(chain, lambda: other.version(1).state is VersionState.COMMITTED)
    assert taken == 4  # it needs two, to take and to commit, when a pass is over after one segment
    assert chain.receive().segments == 27
    assert not list((chain.inbox / "clients" / mallory.folder).glob("*/*"))


def test_of_a_flood_of_segments_only_so_many_are_listed_at_once(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_plugin.top.inbox.MAX_LISTED", 4)
    mallory, other = Forger(chain, "a-mallory"), Forger(chain, "other")
    mallory.put_segments([mallory.records()] * 30)
    other.send_files(a=b"1")
    assert chain.receive().segments == 31
    assert other.version(1).state is VersionState.COMMITTED
    assert mallory.receipt().parcels[0].taken == 30


def test_rejected_segments_in_any_number_are_named_and_kept_a_few_at_a_time(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A flood of objects without a byte."""
    monkeypatch.setattr("cdr_plugin.top.sender.MAX_SHOWN", 5)
    parcel = client.parcel()
    for path in client.put_segments([client.records()] * 30, parcel=parcel):
        path.write_bytes(b"")
    seen = Recorder()
    assert chain.receive(seen).rejected == 30
    assert len(seen.errors) == 6 and "more than 5 of its segments are rejected" in seen.errors[-1]
    assert len(list((chain.top.state_folder / "quarantine").iterdir())) == 5
    assert len(client.receipt().parcels[0].rejected) == 30
    client.put_segments([client.records()] * 30, parcel=parcel)
    assert chain.receive().segments == 30


def test_requests_and_foreign_objects_in_any_number_cost_a_few_lines_and_keep_nobody_out_for_good(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.inbox.MAX_ENROLMENTS", 20)
    for at in range(100):
        client.put(f"clients/{client.folder}/enrol-{at:016x}", b"")
        client.put(f"clients/{client.folder}/foreign-{at}", b"")
    seen = Recorder()
    chain.receive(seen)
    assert sum("/enrol-" in line for line in seen.errors) == sum("/foreign-" in line for line in seen.errors) == 16
    assert [line for line in seen.errors if " more " in line] == [
        "clients: 84 more objects that are left where they are",
        "clients: 4 more requests to be known are refused",
    ]
    chain.send(chain.new_client("other"))
    for _ in range(200):  # each time with a chance of a fifth
        chain.receive()
        if any(known.name == "other" for known in chain.top.register.clients()):
            return
    raise AssertionError("never admitted")


def test_what_was_taken_of_a_parcel_is_not_read_again_for_each_of_its_segments(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, read = ClientRows.taken, list[bytes]()

    def taken(rows: ClientRows, parcel: bytes) -> Iterable[TakenSegment]:
        read.append(parcel)
        return real(rows, parcel)

    monkeypatch.setattr(ClientRows, "taken", taken)
    client.send_version([], encode_tree([file_node("f", b"does not come")]))
    client.put_segments([client.records()] * 100)
    assert chain.receive().segments == 101
    assert len(read) < 10


def test_of_a_flood_that_was_not_all_listed_nothing_is_looked_for_and_nothing_called_missing(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.inbox.MAX_LISTED", 4)
    looked_for: list[str] = []
    real = LocalTransport.stat

    def stat(transport: LocalTransport, name: str) -> ObjectInfo:
        looked_for.append(name)
        return real(transport, name)

    monkeypatch.setattr(LocalTransport, "stat", stat)
    first, *_ = client.put_segments([client.records()] * 30)
    first.unlink()
    inboxes = Inboxes(chain.top.plugins, chain.top.inboxes, Recorder(), chain.top.view)
    with inboxes:
        assert _one_pass(chain.top, inboxes, Recorder(), ReceiveResult())
    (parcel,) = client.receipt().parcels
    assert parcel.taken == 0 and not parcel.missing and not [name for name in looked_for if "clients" in name]
    chain.receive()
    (parcel,) = client.receipt().parcels
    assert parcel.missing == [0]


def test_a_version_of_more_segments_than_are_listed_at_once_is_committed(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of its payloads spans three of them."""
    monkeypatch.setattr("cdr_plugin.top.inbox.MAX_LISTED", 4)
    client = Forger(chain)
    contents = [os.urandom(size) for size in (*[4100] * 8, 9000)]
    tree = encode_tree([file_node(f"f{at}", data) for at, data in enumerate(contents)])
    chunker = chunker_id(client.tier.ticket.chunker)
    builder = SegmentBuilder(Preamble(1, client.key.public.fingerprint, chunker, "x"), 4096)
    plaintexts = [bytes(full) for data in contents for full in builder.add_payload(plain(data))]
    plaintexts += [bytes(full) for full in builder.add_payload(plain(tree, TREE))]
    plaintexts += [bytes(full) for full in builder.add_version(client.sign(client.record(tree)))]
    client.put_segments([*plaintexts, bytes(builder.finish() or b"")])
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def _passes_until(chain: Chain, reached: Callable[[], bool]) -> int:
    """How many passes it takes, each as if it were the only one of its run."""
    result = ReceiveResult()
    with Inboxes(chain.top.plugins, chain.top.inboxes, Recorder(), chain.top.view) as inboxes:
        for count in range(1, 30):
            assert _one_pass(chain.top, inboxes, Recorder(), result)
            with suppress(StopIteration):
                if reached():
                    return count
    raise AssertionError("never")


def test_records_of_versions_are_held_only_while_they_wait_and_only_so_many(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = ["/" + "x" * 10_000] * 10
    tree = encode_tree([file_node("f", b"one")])
    first = client.send_version([plain(b"one")], tree, paths=long)
    assert chain.receive().versions_stored == 1
    rows = chain.top.state.client(client.key.public.fingerprint)
    assert [(row.hash, len(row.record)) for row in rows.versions()] == [(first.hash, 0)]
    monkeypatch.setattr("cdr_plugin.top.commit.MAX_PENDING_BYTES", 350_000)
    waiting = encode_tree([file_node("f", b"does not come")])
    for _ in range(6):
        client.send_version([], waiting, paths=long)
    chain.receive()
    states = [version.state for version in client.receipt().versions]
    assert (states.count(VersionState.STORED), states.count(VersionState.REJECTED)) == (4, 2)
    client.put_segments([client.records(plain(b"does not come"))])
    assert chain.receive().versions_stored == 4
    client.send_files(f=b"and goes on")
    assert chain.receive().versions_stored == 1
    check_repository(chain)
