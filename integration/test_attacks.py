"""A hostile client, a hostile storage: what they try, and that nothing comes of it."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import msgpack
import msgspec
import pytest
import zstandard

from cdr_plugin.client.state import cut_keys
from cdr_plugin.errors import AuthenticationError, CdrError, FormatError, UserError
from cdr_plugin.identity.keys import SealingKey, SigningKey
from cdr_plugin.identity.register import ClientState
from cdr_plugin.identity.ticket import read_ticket, request_enrolment
from cdr_plugin.model.blobs import BlobId, BlobType, Payload, blob_id
from cdr_plugin.model.trees import Node, encode_tree
from cdr_plugin.parcel.head import HeadParcel
from cdr_plugin.parcel.naming import Answer, answer_name, enrolment_name, folder_id, head_name, segment_name
from cdr_plugin.parcel.receipt import Receipt, VersionState, write_receipt
from cdr_plugin.parcel.version import SignedVersionRecord
from cdr_restic.locks import LockTimes
from tests.support.chain import Chain, Recorder
from tests.support.forger import (
    Forger,
    check_repository,
    dir_node,
    file_node,
    framed,
    plain,
    quick_chain,
    restic,
)

TREE = BlobType.TREE


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    monkeypatch.setattr("cdr_restic.repository.LockTimes", partial(LockTimes, settle_s=0))
    return quick_chain(tmp_path)


def packs(chain: Chain) -> list[Path]:
    return sorted(chain.repository.glob("data/*/*"))


def stored_versions(chain: Chain) -> int:
    said = restic(chain, "snapshots", "--json")
    return sum("cdr-pin" not in (found.get("tags") or []) for found in msgspec.json.decode(said) or [])


def peak_of(work: Callable[[], object]) -> int:
    """Peak memory, in bytes, of a child process that does ``work``."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
            os.write(writing, str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    os.waitpid(child, 0)
    assert said, "the child failed"
    return int(said)


def receive_elsewhere(chain: Chain) -> int:
    """Peak memory of a pass in another process."""

    def work() -> None:
        chain.top = chain.new_top()
        chain.receive()

    return peak_of(work)


# --- who sends, and where ---


def test_a_segment_signed_by_another_client_is_refused_in_the_victims_folder(chain: Chain) -> None:
    victim, mallory = Forger(chain, "victim"), Forger(chain)
    tree = encode_tree([file_node("evil", b"evil")])
    record = mallory.sign(mallory.record(tree, client=victim.key.public.fingerprint))
    before = packs(chain)
    parcel = mallory.parcel()
    plaintext = mallory.records(plain(b"evil"), plain(tree, TREE), record)
    mallory.put_segments([plaintext], parcel=parcel, folder=victim.folder)
    victim.parcels = list(mallory.parcels)
    victim.put_head()
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.rejected, result.versions_stored, result.blobs_new) == (1, 0, 0)
    assert any("signed by another client than victim" in line for line in seen.errors)
    assert packs(chain) == before
    assert victim.receipt().parcels[0].rejected[0].index == 0


def test_another_clients_parcel_of_the_same_id_takes_nothing_away(chain: Chain) -> None:
    """Parcel IDs are names of folders in shared storage: anybody may use one again."""
    victim, mallory = Forger(chain, "victim"), Forger(chain, "a-mallory")
    parcel = victim.parcel()
    mallory.put_segments([mallory.records(plain(b"junk"))], parcel=mallory.parcel(id_=parcel.id))
    mallory.put(segment_name(mallory.folder, parcel.id, 1), b"\1\1garbage")
    chain.receive()
    tree = encode_tree([file_node("precious", b"precious")])
    record = victim.sign(victim.record(tree))
    victim.put_segments([victim.records(plain(b"precious")), victim.records(plain(tree, TREE), record)], parcel=parcel)
    assert chain.receive().versions_stored == 1
    assert victim.version(1).state == VersionState.COMMITTED
    check_repository(chain)


def test_segments_and_heads_of_unknown_senders_stay_unread_and_unanswered(chain: Chain) -> None:
    stranger = Forger(chain, "stranger")
    stranger.key = SigningKey(os.urandom(32))
    [path] = stranger.put_segments([stranger.records(plain(b"x"))])
    data = path.read_bytes()
    seen = Recorder()
    assert chain.receive(seen).segments == 0
    assert [line for line in seen.errors if f"clients/{stranger.folder}" in line and "unknown sender" in line]
    assert path.read_bytes() == data
    assert not (chain.inbox / answer_name(stranger.folder, Answer.RECEIPT)).exists()


def test_a_revoked_clients_segments_wait_unread_until_it_is_approved_again(chain: Chain) -> None:
    client = Forger(chain)
    client.send_files(a=b"1")
    chain.top.register.set_state(client.key.public.fingerprint, chain.group, ClientState.REVOKED)
    assert chain.receive().segments == 0
    assert stored_versions(chain) == 0
    chain.top.register.set_state(client.key.public.fingerprint, chain.group, ClientState.APPROVED)
    assert chain.receive().versions_stored == 1


def test_names_that_cdr_does_not_give_are_reported_and_left_alone(chain: Chain) -> None:
    client = Forger(chain)
    client.send_files(a=b"1")
    odd = [f"clients/{client.folder}/{name}" for name in ("HEAD", "x", "0" * 32 + "/0", "0" * 32 + "/0000000G", "-")]
    odd += [f"clients/{client.folder}/{'0' * 32}/00000000/deeper", "clients/readme", f"clients/{'A' * 32}/head"]
    for name in odd:
        client.put(name, b"?")
    (chain.inbox / "clients" / client.folder / "loop").symlink_to("/")
    os.mkfifo(chain.inbox / "clients" / client.folder / ("1" * 32))
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 1
    assert sum("not a name that cdr gives" in line for line in seen.errors) == len(odd)
    assert all((chain.inbox / name).read_bytes() == b"?" for name in odd)


def test_huge_objects_are_never_read(chain: Chain) -> None:
    """10 GB each, sparse: a segment, a head and a request; another client is served beside them."""
    mallory, other = Forger(chain), Forger(chain, "other")
    parcel = os.urandom(16)
    mallory.put_segments([mallory.records(plain(b"x"))])
    names = [
        segment_name(mallory.folder, parcel, 0),
        head_name(mallory.folder),
        enrolment_name(mallory.folder, b"huge"),
    ]
    for name in names:
        path = mallory.put(name, b"\1\1")
        with path.open("r+b") as file:
            file.truncate(10 << 30)
    other.send_files(a=b"1")
    inherited = peak_of(lambda: None)  # what a worker holds that has run other tests
    assert receive_elsewhere(chain) - inherited < 300 << 20
    assert other.version(1).state == VersionState.COMMITTED
    assert not (chain.inbox / names[0]).exists()


# --- heads and receipts ---


def test_heads_of_others_garbage_and_replayed_heads_change_no_outcome(chain: Chain) -> None:
    victim, mallory = Forger(chain, "victim"), Forger(chain)
    victim.send_files(a=b"1")
    old_head = (chain.inbox / head_name(victim.folder)).read_bytes()
    chain.receive()
    mallory.head_serial = 1 << 61  # a higher serial does not make it the victim's
    for forged in (old_head[:50], b"\1\2" + os.urandom(500), mallory.put_head(folder=victim.folder)):
        victim.send_files(a=os.urandom(8))
        victim.put(head_name(victim.folder), forged)
        seen = Recorder()
        assert chain.receive(seen).versions_stored == 1
        assert [line for line in seen.errors if line.startswith(head_name(victim.folder))]
    chain.receive()
    victim.put_head()
    chain.receive()
    victim.put(head_name(victim.folder), old_head)
    victim.parcels.append(HeadParcel(id=os.urandom(16), segments=0, closed=False))
    tree = encode_tree([])
    parcel = victim.parcel()
    signed = victim.sign(victim.record(tree))
    victim.put(segment_name(victim.folder, parcel.id, 0), parcel.seal(0, victim.records(plain(tree, TREE), signed)))
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 1
    assert [line for line in seen.errors if "replayed" in line]
    check_repository(chain)


def test_a_head_that_promises_billions_of_segments_stops_nobody(chain: Chain) -> None:
    mallory, other = Forger(chain, "a-mallory"), Forger(chain, "other")
    mallory.parcels = [HeadParcel(id=os.urandom(16), segments=(1 << 32) - 1, closed=False) for _ in range(10_000)]
    mallory.put_head()
    other.send_files(a=b"1")
    assert chain.receive().versions_stored == 1
    assert other.version(1).state == VersionState.COMMITTED
    assert len(mallory.receipt().parcels) > 0


def test_forged_replayed_and_foreign_receipts_change_nothing_at_the_client(chain: Chain) -> None:
    client = chain.new_client("alice")
    (chain.base / "src").mkdir()
    (chain.base / "src" / "file").write_bytes(b"content")
    chain.backup(client, chain.base / "src")
    chain.send(client)
    name = answer_name(folder_id(client.identity.signing.public, chain.group), Answer.RECEIPT)
    chain.receive()
    old = (chain.inbox / name).read_bytes()
    chain.send(client)
    state = [(v.number, v.state) for v in client.state.versions()]
    assert state == [(1, "committed")]
    other = Forger(chain, "other")
    other.send_files(b=b"2")
    chain.receive()
    foreign = (chain.inbox / answer_name(other.folder, Answer.RECEIPT)).read_bytes()
    known = sorted(key for keys in client.state.known() for key in cut_keys(keys))
    lie = Receipt(serial=1 << 60, missing=[(BlobType(key[0]), BlobId(key[1:])) for key in known])
    forged = write_receipt(
        lie, other.key, client=client.identity.signing.public, group=chain.group, issued_s=int(time.time()),
        sealing=client.identity.sealing_key(chain.group).public,
    )  # fmt: skip
    for bad in (old, foreign, forged, old[:-1], b"", b"\2" + old[1:], os.urandom(3000)):
        (chain.inbox / name).write_bytes(bad)
        chain.send(client)
        assert sorted(key for keys in client.state.known() for key in cut_keys(keys)) == known
        assert [(v.number, v.state) for v in client.state.versions()] == state


# --- possession ---


def test_what_others_delivered_is_missing_exactly_like_what_nobody_has(chain: Chain) -> None:
    """A data blob, a subtree and a root: in each case the same answer, and nothing committed."""
    victim = Forger(chain, "victim")
    secret = b"the victim's secret"
    below = encode_tree([file_node("secret", secret)])
    root = encode_tree([dir_node("below", below)])
    victim.send_version([plain(secret), plain(below, TREE)], root)
    chain.receive()
    nobody = b"something nobody has"
    absent_below = encode_tree([file_node("absent", nobody)])
    absent_root = encode_tree([dir_node("below", absent_below)])
    answers = []
    for at, (data, tree, top) in enumerate(((secret, below, root), (nobody, absent_below, absent_root))):
        guess = encode_tree([file_node("guess", data)])
        folder = encode_tree([dir_node("folder", tree)])
        cases = [(guess, blob_id(data)), (folder, blob_id(tree)), (top, blob_id(top))]
        for case, (tree_sent, wanted) in enumerate(cases):
            mallory = Forger(chain, f"mallory-{at}-{case}")
            mallory.send_version([], tree_sent, with_tree=case < 2)
            notes = Recorder()
            result = chain.receive(notes)
            assert result.versions_stored == 0
            receipt = mallory.receipt()
            assert [id_ for _, id_ in receipt.missing] == [wanted]
            state = mallory.version(1)
            said = [note.replace(mallory.tier.name, "NAME") for note in notes.notes + notes.errors]
            answers.append((case, state.state, state.reason, state.snapshot, receipt.committed, said))
    assert answers[:3] == answers[3:]
    assert stored_versions(chain) == 1
    # Who does deliver the bytes may refer to them, and shares what is stored.
    honest = Forger(chain, "honest")
    before = packs(chain)
    honest.send_version([plain(secret), plain(below, TREE)], root)
    assert chain.receive().versions_stored == 1
    assert packs(chain) == before
    check_repository(chain)


def test_a_delivered_tree_does_not_give_what_is_below_it(chain: Chain) -> None:
    """Knowing a tree's bytes is not knowing the files that it names."""
    victim, mallory = Forger(chain, "victim"), Forger(chain)
    secret = b"secret"
    root = encode_tree([file_node("secret", secret)])
    victim.send_version([plain(secret)], root)
    chain.receive()
    mallory.send_version([], root)
    assert chain.receive().versions_stored == 0
    assert [id_ for _, id_ in mallory.receipt().missing] == [blob_id(secret)]
    # Nor does a later version reach it by way of the earlier one that never committed.
    mallory.send_version([], encode_tree([dir_node("old", root)]))
    assert chain.receive().versions_stored == 0
    check_repository(chain)


def test_a_lost_state_does_not_give_possession_away(chain: Chain) -> None:
    victim, mallory = Forger(chain, "victim"), Forger(chain)
    victim.send_files(secret=b"secret")
    mallory.send_files(own=b"own")
    chain.receive()
    chain.top.close()
    (chain.base / "top-state").rename(chain.base / "lost")
    chain.top = chain.new_top()
    mallory.send_version([], encode_tree([file_node("own", b"own"), file_node("secret", b"secret")]))
    assert chain.receive().versions_stored == 0
    assert [id_ for _, id_ in mallory.receipt().missing] == [blob_id(b"secret")]
    mallory.send_version([], encode_tree([file_node("own", b"own")]))
    assert chain.receive().versions_stored == 1
    check_repository(chain)


# --- payloads ---


def _window_log(data: bytes, log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=log, write_content_size=False)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(data) + stream.flush()


def _dictionary(data: bytes) -> bytes:
    words = zstandard.ZstdCompressionDict(os.urandom(4096) + data[:2048], zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=words).compress(data)


SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0junk"
TEXT = b"some text that compresses, and some more of it. " * 2000
ODD_FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "trailing garbage": lambda data: zstandard.compress(data) + b"garbage",
    "trailing zero": lambda data: zstandard.compress(data) + b"\0",
    "two frames": lambda data: zstandard.compress(data[:1000]) + zstandard.compress(data[1000:]),
    "skippable frame before": lambda data: SKIPPABLE + zstandard.compress(data),
    "skippable frame behind": lambda data: zstandard.compress(data) + SKIPPABLE,
    "skippable frame alone": lambda data: SKIPPABLE,
    "dictionary": _dictionary,
    "window of 16 MiB": lambda data: _window_log(data, 24),
    "window of 128 MiB": lambda data: _window_log(data, 27),
    "cut off": lambda data: zstandard.compress(data)[:-1],
    "wrong content size": lambda data: _resized(zstandard.compress(data)),
    "another blob": lambda data: zstandard.compress(data[::-1]),
    "empty": lambda data: b"",
    "nothing but its magic": lambda data: b"\x28\xb5\x2f\xfd",
    "incompressible in tiny blocks": lambda data: _many_blocks(data),
}


def _resized(frame: bytes) -> bytes:
    """The same frame with another content size in its header."""
    size = zstandard.frame_content_size(frame)
    return frame.replace(size.to_bytes(4, "little"), (size - 1).to_bytes(4, "little"), 1)


def _many_blocks(data: bytes) -> bytes:
    """A valid frame of raw blocks of one byte each: four times as long as what it holds."""
    block, last = (1 << 3).to_bytes(3, "little"), (1 << 3 | 1).to_bytes(3, "little")
    blocks = b"".join(block + data[at : at + 1] for at in range(len(data) - 1))
    return b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little") + blocks + last + data[-1:]


def test_odd_frames_are_refused_or_compressed_anew_but_never_stored(chain: Chain) -> None:
    """With each goes a good blob: that one is stored, the pass goes on, and restic reads all."""
    mallory = Forger(chain)
    stored = []
    for name, make in ODD_FRAMES.items():
        data = name.encode() + TEXT
        mallory.put_segments([mallory.records(framed(b"good " + data), framed(data, make(data)))])
        stored.append(b"good " + data)
    unexpected = Recorder()
    result = chain.receive(unexpected)
    assert result.blobs_new == len(stored)
    assert result.rejected == len(ODD_FRAMES)
    accepted = [plain(data) for data in stored]
    tree = encode_tree([file_node(f"{at:03}", item.data) for at, item in enumerate(accepted)])
    mallory.send_version([], tree)
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def test_frames_that_decode_but_restic_should_not_keep_are_compressed_anew(chain: Chain) -> None:
    """No content size, a checksum, an 8 MiB window: what is stored is what restic reads."""
    mallory = Forger(chain)
    datas = [b"%d" % at + TEXT for at in range(4)]
    frames = [
        _window_log(datas[0], 23),
        zstandard.ZstdCompressor(write_checksum=True).compress(datas[1]),
        zstandard.ZstdCompressor(level=19).compress(datas[2]),
        zstandard.ZstdCompressor(write_content_size=False).compress(datas[3]),
    ]
    payloads = [framed(data, frame) for data, frame in zip(datas, frames, strict=True)]
    mallory.send_version(payloads, encode_tree([file_node(str(at), data) for at, data in enumerate(datas)]))
    assert chain.receive().versions_stored == 1
    check_repository(chain)
    restic(chain, "restore", "latest", "--target", str(chain.base / "out"))
    assert [(chain.base / "out" / str(at)).read_bytes() for at in range(4)] == datas


WRONG_PAYLOADS = {
    "another ID": Payload(BlobType.DATA, blob_id(b"y"), "plain/1", 1, b"x"),
    "too short": Payload(BlobType.DATA, blob_id(b"xx"), "plain/1", 3, b"xx"),
    "empty": Payload(BlobType.DATA, blob_id(b""), "plain/1", 0, b""),
    "declared over the limit": framed(b"x", length=(8 << 20) + 1),
    "declared far over the limit": framed(b"x", length=1 << 62),
    "declared smaller than it is": framed(bytes(1 << 20), length=1000),
    "declared larger than it is": framed(bytes(1000), length=1 << 20),
    "a tree as data's twin": Payload(BlobType.TREE, blob_id(b"x"), "plain/1", 1, b"x"),
}


def test_payloads_that_are_not_what_they_claim_are_rejected_one_by_one(chain: Chain) -> None:
    mallory = Forger(chain)
    for payload in WRONG_PAYLOADS.values():
        mallory.put_segments([mallory.records(plain(b"before"), payload)])
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.rejected, result.blobs_new) == (len(WRONG_PAYLOADS), 1)
    assert len(mallory.receipt().parcels) == len(WRONG_PAYLOADS)
    assert all(parcel.rejected[0].reason for parcel in mallory.receipt().parcels)
    check_repository(chain)


def test_methods_that_nobody_installed_wait_for_the_plugin(chain: Chain) -> None:
    mallory = Forger(chain)
    labels = ("zstd/2", "nosuch/1", "rabin/1", "plain/2", "zstd", "/", "x/../../y", "a\0b/1")
    paths = []
    for label in labels:
        payload = Payload(BlobType.DATA, blob_id(b"x"), label, 1, b"x")
        paths += mallory.put_segments([mallory.records(payload)])
    mallory.send_files(a=b"1")
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.versions_stored, result.segments) == (1, 1)
    waiting = [path for path in paths if path.exists()]
    assert len(waiting) + result.rejected == len(paths)
    assert len(waiting) >= 3
    check_repository(chain)


# --- records ---

GARBAGE: dict[str, Callable[[Forger], bytes]] = {
    "nothing": lambda m: b"",
    "no preamble": lambda m: msgpack.packb((5, b"", bytes(64))),
    "noise": lambda m: os.urandom(1000),
    "cut-off record": lambda m: m.records(plain(b"x" * 100))[:-1],
    "nested arrays": lambda m: m.records(b"\x91" * 100_000),
    "a map": lambda m: m.records(msgpack.packb({"a": 1})),
    "an extension": lambda m: m.records(msgpack.packb(msgpack.ExtType(1, b"x"))),
    "numbers": lambda m: m.records(b"\1\2\3"),
    "huge array": lambda m: m.records(b"\xdd\xff\xff\xff\xff"),
    "huge bytes": lambda m: m.records(b"\xc6\xff\xff\xff\xff"),
    "unknown kind": lambda m: m.records(msgpack.packb((77, 1))),
    "an attestation": lambda m: m.records(msgpack.packb((4, b"x", bytes(64)))),
    "floats": lambda m: m.records(msgpack.packb((1.0, 0, bytes(32), "plain/1", 1, b"x"))),
    "booleans": lambda m: m.records(msgpack.packb((True, 0, bytes(32), "plain/1", 1, b"x"))),
    "blob type 2": lambda m: m.records(msgpack.packb((1, 2, bytes(32), "plain/1", 1, b"x"))),
    "short ID": lambda m: m.records(msgpack.packb((1, 0, bytes(31), "plain/1", 1, b"x"))),
    "method as bytes": lambda m: m.records(msgpack.packb((1, 0, bytes(32), b"plain/1", 1, b"x"))),
    "method not UTF-8": lambda m: m.records(b"\x96\1\0\xc4\x20" + bytes(32) + b"\xa2\xff\xff\1\xc4\1x"),
    "number beyond 64 bits": lambda m: m.records(number=(1 << 64) - 1),
    "first part that ends": lambda m: m.records(msgpack.packb((2, 0, bytes(32), "plain/1", 9, 9, b"123456789"))),
    "part of another blob": lambda m: m.records(
        msgpack.packb((2, 0, bytes(32), "plain/1", 9, 9, b"1234")), msgpack.packb((3, 0, b"\1" * 32, 1, True, b"56789"))
    ),
    "parts in the wrong order": lambda m: m.records(
        msgpack.packb((2, 0, bytes(32), "plain/1", 9, 9, b"1234")), msgpack.packb((3, 0, bytes(32), 2, True, b"56789"))
    ),
    "signature of 63 bytes": lambda m: m.records(msgpack.packb((5, b"x", bytes(63)))),
}  # fmt: skip


def test_records_of_wrong_types_and_shapes_are_rejected_and_the_rest_goes_on(chain: Chain) -> None:
    mallory = Forger(chain)
    for make in GARBAGE.values():
        mallory.put_segments([make(mallory)])
    mallory.send_files(a=b"1")
    seen = Recorder()
    result = chain.receive(seen)
    assert result.rejected == len(GARBAGE), seen.errors
    assert result.versions_stored == 1
    check_repository(chain)


def test_records_of_a_later_format_are_left_in_the_inbox_and_reported(chain: Chain) -> None:
    mallory = Forger(chain)
    mallory.put_segments([mallory.records(format=3)])
    mallory.send_files(a=b"1")
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.rejected, result.versions_stored) == (0, 1)
    assert any("records of format 3" in note for note in seen.notes)
    check_repository(chain)


# --- trees ---

MINIMAL = '"mtime":"1970-01-01T00:00:00Z","atime":"1970-01-01T00:00:00Z","ctime":"1970-01-01T00:00:00Z","uid":0,"gid":0'


def raw_node(name: str = "f", rest: str = '"content":[]', type_: str = "file", middle: str = MINIMAL) -> bytes:
    return f'{{"nodes":[{{"name":"{name}","type":"{type_}",{middle},{rest}}}]}}\n'.encode()


def nodes(*given: Node) -> bytes:
    return encode_tree(given)


X = b"x"
BAD_TREES: dict[str, bytes] = {
    "empty": b"\n",
    "not JSON": b"{nodes}\n",
    "an array": b"[]\n",
    "nodes null": b'{"nodes":null}\n',
    "no newline": b'{"nodes":[]}',
    "two newlines": b'{"nodes":[]}\n\n',
    "whitespace": b'{"nodes": []}\n',
    "unknown field": b'{"nodes":[],"more":1}\n',
    "nodes twice": b'{"nodes":[],"nodes":[]}\n',
    "unknown field of a node": raw_node(rest='"content":[],"extra":1'),
    "fields in another order": raw_node().replace(b'"uid":0,"gid":0', b'"gid":0,"uid":0'),
    "a field twice": raw_node(rest='"content":[],"content":[]'),
    "a zero written out": raw_node(rest='"content":[]', middle=MINIMAL + ',"size":0'),
    "a float": raw_node(rest='"content":[]', middle=MINIMAL + ',"size":1.0'),
    "an exponent": raw_node(rest='"content":[]', middle=MINIMAL + ',"size":1e3'),
    "a size as text": raw_node(rest='"content":[]', middle=MINIMAL + ',"size":"1"'),
    "not UTF-8": raw_node("f").replace(b'"f"', b'"\xff"'),
    "surrogate": raw_node("\\ud800"),
    "raw control character": raw_node("a\x01b"),
    "raw <": raw_node("a<b"),
    "deep": b'{"nodes":' + b"[" * 200_000 + b"]" * 200_000 + b"}\n",
    "deep in attributes": raw_node(rest='"generic_attributes":' + "[" * 100_000 + "]" * 100_000 + ',"content":[]'),
    "attributes that are no object": raw_node(rest='"generic_attributes":[1],"content":[]'),
    "attributes with spaces": raw_node(rest='"generic_attributes":{"a": 1},"content":[]'),
    "attributes twice": raw_node(rest='"generic_attributes":{"a":1,"a":2},"content":[]'),
    "attributes unsorted": raw_node(rest='"generic_attributes":{"b":1,"a":2},"content":[]'),
    "attributes empty": raw_node(rest='"generic_attributes":{},"content":[]'),
    "unsorted": nodes(file_node("b", X), file_node("a", X)),
    "same name twice": nodes(file_node("a", X), file_node("a", X)),
    "same name by escapes": nodes(file_node("\\x61", X), file_node("a", X)),
    "needless escape": nodes(file_node("\\x61", X)),
    "no name": nodes(file_node("", X)),
    "dot": nodes(file_node(".", X)),
    "dot dot": nodes(file_node("..", X)),
    "dot dot by escapes": nodes(file_node("\\x2e\\056", X)),
    "slash": nodes(file_node("../../etc/passwd", X)),
    "slash by escape": nodes(file_node("a\\x2fb", X)),
    "NUL": nodes(file_node("a\\x00b", X)),
    "bare quote": nodes(file_node('a"b', X)),
    "dangling backslash": nodes(file_node("a\\", X)),
    "unknown escape": nodes(file_node("a\\q", X)),
    "file without content": nodes(file_node("f", content=None)),
    "dir with content": nodes(dir_node("d", b"x", content=[])),
    "dir without subtree": nodes(file_node("d", type="dir", content=None)),
    "file with subtree": nodes(file_node("f", X, subtree=blob_id(X).hex())),
    "symlink with content": nodes(file_node("l", X, type="symlink")),
    "short ID": nodes(file_node("f", content=["abcd"])),
    "upper-case ID": nodes(file_node("f", content=[blob_id(X).hex().upper()])),
    "ID with spaces": nodes(file_node("f", content=[" " * 62 + "ab"])),
    "ID that is no hex": nodes(file_node("f", content=["z" * 64])),
    "unknown type": nodes(file_node("f", X, type="irregular")),
    "no type": nodes(file_node("f", X, type="")),
    "negative size": nodes(file_node("f", X, size=-1)),
    "size of 65 bits": nodes(file_node("f", X, size=1 << 64)),
    "links of 65 bits": nodes(file_node("f", X, links=1 << 64)),
    "inode of a thousand digits": raw_node(rest='"inode":' + "9" * 1000 + ',"content":[]'),
    "inode of a million digits": raw_node(rest='"inode":' + "9" * 1_000_000 + ',"content":[]'),
    "uid of 33 bits": nodes(file_node("f", X, uid=1 << 32)),
    "mode of 33 bits": nodes(file_node("f", X, mode=1 << 32)),
    "no time": nodes(file_node("f", X, mtime="")),
    "time without zone": nodes(file_node("f", X, mtime="2020-01-01T00:00:00")),
    "month 13": nodes(file_node("f", X, ctime="2020-13-01T00:00:00Z")),
    "30 February": nodes(file_node("f", X, ctime="2020-02-30T00:00:00Z")),
    "leap second": nodes(file_node("f", X, ctime="2020-01-01T00:00:60Z")),
    "year 12020": nodes(file_node("f", X, ctime="12020-01-01T00:00:00Z")),
    "zone of 24 hours": nodes(file_node("f", X, ctime="2020-01-01T00:00:00+24:00")),
    "ten fraction digits": nodes(file_node("f", X, ctime="2020-01-01T00:00:00.1234567891Z")),
    "digits of another script": nodes(file_node("f", X, ctime="\u0662020-01-01T00:00:00Z")),
    "zeros behind the fraction": nodes(file_node("f", X, ctime="2020-01-01T00:00:00.500Z")),
    "zone +00:00": nodes(file_node("f", X, ctime="2020-01-01T00:00:00+00:00")),
    "raw target that is text": nodes(file_node("l", type="symlink", content=None, linktarget="a", linktarget_raw=b"a")),
    "raw target of another link": nodes(
        file_node("l", type="symlink", content=None, linktarget="a", linktarget_raw=b"\xff")
    ),
}  # fmt: skip


def test_trees_that_restic_would_choke_on_are_rejected_by_name(chain: Chain) -> None:
    mallory = Forger(chain)
    mallory.put_segments([mallory.records(plain(X))])
    for tree in BAD_TREES.values():
        mallory.put_segments([mallory.records(plain(tree, TREE))])
    mallory.send_files(a=b"1")
    seen = Recorder()
    result = chain.receive(seen)
    answered = zip(BAD_TREES, mallory.receipt().parcels[1:], strict=False)
    assert [name for name, parcel in answered if not parcel.rejected] == []
    assert (result.rejected, result.versions_stored) == (len(BAD_TREES), 1)
    check_repository(chain)


def test_a_version_whose_subtree_or_root_never_comes_is_not_committed(chain: Chain) -> None:
    mallory = Forger(chain)
    absent = encode_tree([file_node("gone", b"gone")])
    mallory.send_version([], encode_tree([dir_node("d", absent)]))
    mallory.send_version([], absent, with_tree=False)
    mallory.send_version([plain(b"blob")], b"blob", with_tree=False)  # a data blob as root
    assert chain.receive().versions_stored == 0
    assert {id_ for _, id_ in mallory.receipt().missing} == {blob_id(absent), blob_id(b"blob")}
    assert stored_versions(chain) == 0
    check_repository(chain)


def test_shared_subtrees_and_very_deep_folders_take_no_more_than_their_trees(chain: Chain) -> None:
    """40 levels of two equal folders each are 2^40 files, and 3,000 levels would end a recursion."""
    mallory = Forger(chain)
    tree, trees = encode_tree([]), []
    for _ in range(40):
        trees.append(plain(tree, TREE))
        tree = encode_tree([dir_node("a", tree), dir_node("b", tree)])
    for _ in range(3000):
        trees.append(plain(tree, TREE))
        tree = encode_tree([dir_node("d", tree)])
    mallory.send_version(trees, tree)
    assert chain.receive().versions_stored == 1
    check_repository(chain)


# --- what inflates ---


def test_payloads_that_inflate_cost_no_memory(chain: Chain) -> None:
    """1.2 GB of blobs out of 130 KB, half of them not even what they claim."""
    mallory = Forger(chain)
    compress = zstandard.ZstdCompressor(level=1).compress
    payloads = []
    for at in range(150):
        data = at.to_bytes(4, "big") + bytes((8 << 20) - 4)
        good = framed(data, compress(data))
        payloads.append(good if at % 2 else Payload(good.type, blob_id(data[:4]), good.method, good.length, good.data))
    idle = receive_elsewhere(chain)
    mallory.put_segments([mallory.records(*payloads)])
    assert receive_elsewhere(chain) - idle < 300 << 20
    assert len(mallory.receipt().parcels[0].rejected) == 1
    check_repository(chain)


def test_half_a_million_empty_or_tiny_records_cost_no_memory(chain: Chain) -> None:
    mallory = Forger(chain)
    empty = b"".join(msgpack.packb((1, 0, at.to_bytes(32, "big"), "plain/1", 0, b"")) for at in range(400_000))
    preambles = mallory.records() * 100_000
    idle = receive_elsewhere(chain)
    mallory.put_segments([mallory.records(empty), preambles[: 19 << 20]])
    mallory.send_files(a=b"1")
    assert receive_elsewhere(chain) - idle < 300 << 20
    assert mallory.version(1).state == VersionState.COMMITTED
    assert mallory.receipt().parcels[0].rejected


def test_thousands_of_version_records_are_noticed_and_not_piled_up(chain: Chain) -> None:
    mallory = Forger(chain)
    first = mallory.send_files(a=b"1")
    forks = [mallory.sign(mallory.record(b"t", previous=bytes([1] * 32), hostname=str(at))) for at in range(3000)]
    mallory.put_segments([mallory.records(*forks)])
    assert chain.receive().versions_stored == 1
    versions = mallory.receipt().versions
    assert (versions[0].record, versions[0].state) == (first.hash, VersionState.COMMITTED)
    assert 0 < len(versions) - 1 <= 200


# --- version records ---


def test_replayed_segments_and_version_records_change_nothing(chain: Chain) -> None:
    """By the same client under the same and another name, by another client, in another group."""
    victim, mallory = Forger(chain, "victim"), Forger(chain)
    tree = encode_tree([file_node("f", b"one")])
    first = victim.sign(victim.record(tree))
    [path] = victim.put_segments([victim.records(plain(b"one"), plain(tree, TREE), first)])
    victim.follow(first)
    data = path.read_bytes()
    chain.receive()
    victim.send_files(a=b"two")
    chain.receive()
    packs_before, state_before = packs(chain), victim.receipt().versions
    victim.put(segment_name(victim.folder, bytes.fromhex(path.parent.name), 0), data)
    victim.put(segment_name(victim.folder, bytes.fromhex(path.parent.name), 1), data)
    victim.put(segment_name(victim.folder, os.urandom(16), 0), data)
    victim.put_segments([victim.records(first)])
    mallory.put(segment_name(mallory.folder, bytes.fromhex(path.parent.name), 0), data)
    mallory.put_segments([mallory.records(first)])
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.versions_stored, result.rejected, result.blobs_new) == (0, 3, 0)
    assert sum("version record was refused" in note for note in seen.notes) == 1
    assert victim.receipt().versions == state_before
    assert mallory.receipt().versions == ()
    assert packs(chain) == packs_before
    elsewhere = quick_chain(chain.base / "elsewhere", group="h")
    twin = Forger(elsewhere, "victim")
    twin.put_segments([twin.records(first)])
    assert elsewhere.receive().versions_stored == 0
    check_repository(chain)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def test_a_changed_byte_anywhere_in_a_version_record_makes_it_nobodys(chain: Chain) -> None:
    victim = Forger(chain, "victim")
    tree = encode_tree([])
    good = victim.sign(victim.record(tree, paths=["/a"], excludes=["b"], tags=["c"]))
    forged = [SignedVersionRecord(flipped(good.body, at), good.signature) for at in range(len(good.body))]
    forged += [SignedVersionRecord(good.body, flipped(good.signature, at)) for at in range(64)]
    other = SigningKey(os.urandom(32))
    forged.append(victim.sign(victim.record(tree), other))
    for change in (
        {"client": other.public.fingerprint}, {"group": "h"}, {"format": 0}, {"number": 0}, {"previous": b"short"},
        {"time": "yesterday"}, {"time": "2020-13-01T00:00:00Z"}, {"tree": b""}, {"uid": -1}, {"gid": 1 << 32},
        {"paths": [""]}, {"paths": "/a"}, {"tags": ["x" * 256]}, {"username": None}, {"number": 1 << 63},
    ):  # fmt: skip
        record = msgspec.to_builtins(victim.record(tree), builtin_types=(bytes,))
        body = msgspec.msgpack.encode({**record, **change})
        forged.append(SignedVersionRecord(body, victim.key.sign(b"cdr/1 version record", body)))
    extra = msgspec.msgpack.encode({**record, "extra": 1})
    forged.append(SignedVersionRecord(extra, victim.key.sign(b"cdr/1 version record", extra)))
    assert len(forged) < 1024
    victim.put_segments([victim.records(plain(tree, TREE), *forged)])
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 0
    assert sum("version record was refused" in note for note in seen.notes) == len(forged)
    assert victim.receipt().versions == ()
    victim.put_segments([victim.records(good)])
    assert chain.receive().versions_stored == 1
    check_repository(chain)


def test_forks_gaps_and_wrong_predecessors_are_told_apart(chain: Chain) -> None:
    client = Forger(chain)
    first = client.send_files(a=b"1")
    chain.receive()
    tree = encode_tree([])
    second = client.sign(client.record(tree))
    waiting = [
        client.sign(client.record(tree, previous=b"\7" * 32)),  # of another past, which may still come
        client.sign(client.record(tree, number=9, previous=b"\6" * 32)),  # a gap
    ]
    wrong = [
        client.sign(client.record(tree, previous=b"")),
        client.sign(client.record(tree, number=1, previous=first.hash)),
        client.sign(client.record(tree, number=3, previous=first.hash)),
    ]
    early = client.sign(client.record(tree, number=4, previous=second.hash))  # does not fit, as is seen later
    again = client.sign(client.record(tree, number=1, previous=b""))  # a state that was lost
    client.put_segments([client.records(plain(tree, TREE), early, again, *waiting, *wrong)])
    assert chain.receive().versions_stored == 1
    client.put_segments([client.records(second)])
    assert chain.receive().versions_stored == 1
    states = {(v.record, v.state) for v in client.receipt().versions}
    for record in (first, second, again):
        assert (record.hash, VersionState.COMMITTED) in states
    for record in (*wrong, early):
        assert (record.hash, VersionState.REJECTED) in states
    for record in waiting:
        assert (record.hash, VersionState.STORED) in states
    assert stored_versions(chain) == 3
    check_repository(chain)


def test_times_in_the_future_or_backwards_are_replaced_by_the_receipts_and_that_is_said(chain: Chain) -> None:
    client = Forger(chain)
    times = ["2020-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "2020-01-02T00:00:00Z", "0000-01-01T00:00:00Z"]
    started_s = int(time.time())
    notes = Recorder()
    for at, claimed in enumerate(times):
        tree = encode_tree([file_node(f"f{at}", b"x")])
        client.send_version([plain(b"x")], tree, time=claimed)
        assert chain.receive(notes).versions_stored == 1
    found = sorted(version.snapshot.time for version in chain.top.open_repository().versions())
    assert found[0] == times[0]
    assert len(found) == 4
    for kept in found[1:]:
        assert time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(started_s)) <= kept[:19]
        assert kept[:4] < "2999"
    assert sum("the receipt time is used" in note for note in notes.notes) == 3
    check_repository(chain)


def test_tags_paths_and_names_that_imitate_ours_gain_nothing(chain: Chain) -> None:
    victim = Forger(chain, "victim")
    victim.send_files(secret=b"secret")
    chain.receive()
    victims = [v for v in chain.top.open_repository().versions() if v.snapshot.hostname == "victim"]
    [tag] = [tag for tag in victims[0].snapshot.tags if tag.startswith("cdr-version:")]
    mallory = Forger(chain)
    for tags in ([tag], ["cdr-pin"], ["cdr-"], ["fine", tag.replace(":1:", ":2:")]):
        mallory.put_segments([mallory.records(mallory.sign(mallory.record(encode_tree([]), tags=tags)))])
        assert chain.receive().versions_stored == 0
    assert {v.state for v in mallory.receipt().versions} == {VersionState.REJECTED}
    pin_path = f"/{victim.key.public.fingerprint.hex()}"
    mallory.send_version(
        [], encode_tree([]), paths=[pin_path], hostname="cdr-pin", tags=["CDR-pin", f"x,{tag}", " cdr-pin"]
    )
    victim.put_segments([victim.records(plain(b"pinned"))])
    assert chain.receive().versions_stored == 1
    made = [v.snapshot for v in chain.top.open_repository().versions() if v.snapshot.paths == [pin_path]]
    assert sorted(snapshot.hostname for snapshot in made) == ["cdr-pin", "mallory"]
    victim.send_files(more=b"more")
    assert chain.receive().versions_stored == 1
    assert "mallory" in restic(chain, "snapshots")
    check_repository(chain)


# --- enrolment ---


def _request(chain: Chain, ticket: str, name: str) -> tuple[str, bytes]:
    key, sealing = SigningKey(os.urandom(32)), SealingKey.generate()
    body = request_enrolment(
        read_ticket(ticket, now_s=0), key, sealing.public, name=name, facts={}, issued_s=int(time.time())
    )
    return enrolment_name(folder_id(key.public, chain.group), body), body


def test_tickets_that_are_used_expired_guessed_foreign_or_copied_enrol_nobody(chain: Chain) -> None:
    victim = Forger(chain, "victim")
    used = chain.top.issue_ticket()
    requests = [_request(chain, used, "first")]
    chain_two = quick_chain(chain.base / "two")
    foreign_group = quick_chain(chain.base / "three", group="h")
    expired = chain.top.issue_ticket(valid_s=-1)
    withdrawn = chain.top.issue_ticket(uses=0)
    for ticket in (used, expired, withdrawn, chain_two.top.issue_ticket(), foreign_group.top.issue_ticket()):
        requests.append(_request(chain, ticket, f"late{len(requests)}"))
    good = read_ticket(chain.top.issue_ticket(), now_s=0)
    key = SigningKey(os.urandom(32))
    guessed = request_enrolment(
        replace(good, secret=os.urandom(32)), key, SealingKey.generate().public, name="guess", facts={}, issued_s=0,
    )  # fmt: skip
    requests.append((enrolment_name(folder_id(key.public, chain.group), guessed), guessed))
    requests += [_request(chain, chain.top.issue_ticket(), taken) for taken in ("victim", "cdr-pin")]
    requests.append((enrolment_name(victim.folder, b"x"), os.urandom(2000)))
    copied = _request(chain, chain.top.issue_ticket(), "copied")
    requests.append((enrolment_name(victim.folder, copied[1]), copied[1]))  # in another one's folder
    (chain.inbox / requests[0][0]).parent.mkdir(parents=True)
    (chain.inbox / requests[0][0]).write_bytes(requests[0][1])
    chain.receive()
    for name, body in requests[1:]:
        victim.put(name, body)
    seen = Recorder()
    chain.receive(seen)
    assert sorted(client.name for client in chain.top.register.clients()) == ["first", "victim"]
    assert {line.partition(":")[0] for line in seen.errors} == {name for name, _ in requests[1:]}


def test_a_damaged_or_foreign_ticket_changes_nothing_at_the_client(chain: Chain) -> None:
    client = chain.new_client("alice")
    text = chain.top.issue_ticket()
    before = client.state.get("ticket")
    lines = text.splitlines()
    middle = len(lines) // 2
    swapped = lines[middle].replace(lines[middle][:2], "AB" if lines[middle][:2] != "AB" else "CD", 1)
    for bad in (
        "", "garbage", text[: len(text) // 2], "\n".join([*lines[:middle], swapped, *lines[middle + 1 :]]),
        text.replace("Group: g", "Group: h"), text + "x", chain.top.issue_ticket(valid_s=-1),
        quick_chain(chain.base / "other", group="h").top.issue_ticket(),
    ):  # fmt: skip
        with pytest.raises((FormatError, AuthenticationError, UserError)) as error:
            client.enroll(bad, {})
        assert isinstance(error.value, CdrError)
        assert "\n" not in str(error.value)
        assert client.state.get("ticket") == before
