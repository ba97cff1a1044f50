"""Damage on the way: named, not stored, sent again, and nobody else has to wait for it."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import msgspec
import pytest

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import LockedError, NoRepositoryError, WrongPasswordError
from cdr_plugin.identity.keys import KemSuite
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.limits import HEADER_BYTES, SEGMENT_PREFIX_BYTES
from cdr_plugin.parcel.naming import folder_id, segment_name
from cdr_restic.files import SealedFiles
from cdr_restic.host import now_text
from cdr_restic.keys import find_key
from cdr_restic.local import LocalStorage
from cdr_restic.locks import LockTimes
from cdr_restic.storage import FileKind
from tests.support.chain import PASSWORD, Chain, Recorder
from tests.support.forger import (
    Forger,
    change_file,
    check_repository,
    file_node,
    flip,
    plain,
    quick_chain,
    restic,
)

BODY = SEGMENT_PREFIX_BYTES + HEADER_BYTES + KemSuite.MLKEM768_X25519.overhead


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Chain:
    """Segments of 16 KiB, so that a small source makes many."""
    monkeypatch.setattr("cdr_plugin.client.backup.SegmentBuilder", partial(SegmentBuilder, target=16 * 1024))
    monkeypatch.setattr("cdr_restic.repository.LockTimes", partial(LockTimes, settle_s=0))
    return quick_chain(tmp_path)


def source(chain: Chain, name: str = "alice") -> Path:
    """Eight files of 12 KB that do not compress, and one blob that spans segments."""
    folder = chain.base / f"{name}-source"
    folder.mkdir()
    noise = random.Random(name)
    for number in range(8):
        (folder / f"file{number}").write_bytes(noise.randbytes(12_000))
    (folder / "long").write_bytes(noise.randbytes(100_000))
    return folder


def folder_of(client: ClientTier) -> str:
    return folder_id(client.identity.signing.public, client.ticket.group)


def segments(chain: Chain, client: ClientTier) -> list[Path]:
    """The client's segments in the inbox, in order."""
    return sorted((chain.inbox / "clients" / folder_of(client)).glob("*/*"))


def label(path: Path) -> str:
    return f"segment {path.parent.name[:12]}/{path.name}"


def prepare(chain: Chain, name: str = "alice") -> tuple[ClientTier, list[Path]]:
    """A client with its first version in the inbox, and the segments of that."""
    client = chain.new_client(name)
    chain.backup(client, source(chain, name))
    chain.send(client)
    return client, segments(chain, client)


def assert_restores(chain: Chain, client: ClientTier, into: str) -> None:
    """The newest version of the client holds the files as they are."""
    check_repository(chain)
    source_folder = chain.base / f"{client.name}-source"
    restic(chain, "restore", "latest", "--host", client.name, "--target", str(chain.base / into))
    restored = chain.base / into / source_folder.relative_to("/")
    want = {path.name: path.read_bytes() for path in source_folder.iterdir()}
    assert {path.name: path.read_bytes() for path in restored.iterdir()} == want


def newest(chain: Chain, client: ClientTier) -> str:
    row = client.state.newest_version()
    assert row is not None
    return row.state


def heal(chain: Chain, client: ClientTier, damaged: list[Path]) -> Recorder:
    """One pass over the damage, the client's answer to the receipt, and another pass."""
    seen = Recorder()
    result = chain.receive(seen)
    assert result.versions_stored == 0
    assert [path for path in damaged if any(label(path) in line for line in seen.errors)] == damaged
    told = Recorder()
    chain.send(client, told)
    assert [path for path in damaged if any(label(path) in line for line in told.errors)] == damaged
    again = Recorder()
    assert chain.receive(again).versions_stored == 1
    assert again.errors == []
    chain.send(client)
    assert newest(chain, client) == "committed"
    return seen


REGIONS = {
    "reserved byte": 3,
    "parcel ID": 4,
    "index": 23,
    "salt": 30,
    "encapsulated key": SEGMENT_PREFIX_BYTES + 700,
    "sealed header": BODY - 100,
    "tag of the header": BODY - 1,
    "ciphertext": BODY + 5000,
    "last byte": -1,
}


def test_a_flipped_bit_in_any_region_is_found_named_and_sent_again(chain: Chain) -> None:
    client, sent = prepare(chain)
    assert len(sent) >= len(REGIONS)
    for path, at in zip(sent, REGIONS.values(), strict=False):
        change_file(path, flip(at))
    heal(chain, client, sent[: len(REGIONS)])
    assert_restores(chain, client, "restored")
    assert segments(chain, client) == []


def put_instead(path: Path, data: bytes) -> None:
    """Another object under this name; the client's spool keeps the old file."""
    path.unlink()
    path.write_bytes(data)


def replace_by_sparse(path: Path, size: int) -> None:
    path.unlink()
    with path.open("wb") as file:
        file.truncate(size)


def test_truncated_extended_emptied_huge_and_garbage_segments_are_sent_again(chain: Chain) -> None:
    client, sent = prepare(chain)
    change_file(sent[0], lambda data: data.__delitem__(slice(-1, None)))
    change_file(sent[1], lambda data: data.__delitem__(slice(BODY + 3, None)))
    change_file(sent[2], lambda data: data.__delitem__(slice(30, None)))
    change_file(sent[3], bytearray.clear)
    change_file(sent[4], lambda data: data.extend(b"\0"))
    change_file(sent[5], lambda data: data.extend(bytes(data)))
    noise = random.Random(1).randbytes(5000)
    change_file(sent[6], lambda data: data.__setitem__(slice(4, None), noise))
    replace_by_sparse(sent[7], 10 << 30)
    heal(chain, client, sent[:8])
    assert_restores(chain, client, "restored")
    kept = list((chain.base / "top-state" / "quarantine").iterdir())
    assert 0 < len(kept) < 8  # for a look, but never the huge one


def test_missing_swapped_and_duplicated_segments_are_sent_again(chain: Chain) -> None:
    client, sent = prepare(chain)
    bytes_of = [path.read_bytes() for path in sent]
    sent[1].unlink()
    put_instead(sent[3], bytes_of[4])
    put_instead(sent[4], bytes_of[3])
    put_instead(sent[6], bytes_of[5])
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 0
    assert [line.partition(":")[0] for line in seen.errors] == [label(sent[at]) for at in (3, 4, 6)]
    assert all("under a wrong name" in line for line in seen.errors)
    told = Recorder()
    chain.send(client, told)
    assert any(label(sent[1]) in line and "did not arrive" in line for line in told.errors)
    assert chain.receive().versions_stored == 1
    assert_restores(chain, client, "restored")


def test_objects_that_come_twice_or_under_names_nobody_announced_change_nothing(chain: Chain) -> None:
    client, sent = prepare(chain)
    copies = {path: path.read_bytes() for path in sent}
    assert chain.receive().versions_stored == 1
    packs = sorted(chain.repository.glob("data/*/*"))
    beyond = chain.inbox / segment_name(folder_of(client), bytes.fromhex(sent[0].parent.name), 0xFFFFFFFF)
    for path, data in copies.items():
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(data)
    beyond.write_bytes(copies[sent[0]])
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.blobs_new, result.versions_stored, result.rejected) == (0, 0, 1)
    assert label(beyond) in seen.errors[0]
    assert sorted(chain.repository.glob("data/*/*")) == packs
    assert segments(chain, client) == []
    chain.send(client)
    assert newest(chain, client) == "committed"


def test_one_clients_damage_delays_no_other_client(chain: Chain) -> None:
    alice, sent = prepare(chain, "alice")
    bob, _ = prepare(chain, "bob")
    change_file(sent[2], flip(BODY + 7))
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 1
    assert [line for line in seen.errors if label(sent[2]) in line and "client alice" in line]
    chain.send(bob)
    assert newest(chain, bob) == "committed"
    chain.send(alice)
    assert newest(chain, alice) != "committed"
    assert chain.receive().versions_stored == 1
    assert_restores(chain, alice, "restored")


def test_segments_of_another_client_group_parcel_or_receiver_are_refused(chain: Chain) -> None:
    _, foreign_sent = prepare(quick_chain(chain.base / "other", group="h"), "carol")
    _, same_group_sent = prepare(quick_chain(chain.base / "twin"), "alice")
    bob, bob_sent = prepare(chain, "bob")
    client, sent = prepare(chain, "alice")
    for at, stray in enumerate((bob_sent[0], foreign_sent[0], same_group_sent[0])):
        put_instead(sent[at], stray.read_bytes())
        # Also as what it is, in a folder where it does not belong:
        stray_copy = chain.inbox / segment_name(folder_of(client), bytes.fromhex(stray.parent.name), 0)
        stray_copy.parent.mkdir()
        stray_copy.write_bytes(stray.read_bytes())
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 1  # bob's own
    assert len(seen.errors) == 6
    assert sum("signed by another client" in line for line in seen.errors) == 1
    chain.send(client)
    assert chain.receive().versions_stored == 1
    assert_restores(chain, client, "restored")
    assert_restores(chain, bob, "bobs")


@pytest.mark.parametrize(("at", "value"), [(0, 2), (0, 0), (1, 99), (2, 77)])
def test_unknown_versions_kinds_and_suites_stay_and_are_reported(chain: Chain, at: int, value: int) -> None:
    client, sent = prepare(chain)
    good = sent[2].read_bytes()
    change_file(sent[2], lambda data: data.__setitem__(at, value))
    newer = sent[2].read_bytes()
    for _ in range(2):
        seen = Recorder()
        result = chain.receive(seen)
        assert (result.rejected, result.versions_stored, seen.errors) == (0, 0, [])
        assert sum(label(sent[2]) in note and "left where it is" in note for note in seen.notes) == 1
    assert sent[2].read_bytes() == newer
    assert not (chain.base / "top-state" / "quarantine").exists()
    told = Recorder()
    chain.send(client, told)
    assert told.errors == []
    sent[2].write_bytes(good)  # as if this tier had been upgraded
    assert chain.receive().versions_stored == 1
    assert_restores(chain, client, "restored")


def test_a_spool_that_was_tampered_with_is_not_sent_but_read_anew(chain: Chain) -> None:
    client = chain.new_client()
    folder = source(chain)
    chain.backup(client, folder)
    spooled = sorted(client.spool.iterdir())[3]
    change_file(spooled, flip(-1))
    seen = Recorder()
    chain.send(client, seen)
    assert [line for line in seen.errors if spooled.name in line]
    assert chain.receive().versions_stored == 0
    chain.send(client)
    chain.backup(client, folder)
    chain.deliver(client)
    assert newest(chain, client) == "committed"
    assert_restores(chain, client, "restored")


def test_prune_in_the_middle_of_a_version_loses_nothing(chain: Chain) -> None:
    client, sent = prepare(chain)
    withheld = {path: path.read_bytes() for path in sent[5:]}
    for path in withheld:
        path.unlink()
    assert chain.receive().blobs_new > 0
    pins = msgspec.json.decode(restic(chain, "snapshots", "--json"))
    assert [pin["time"][:4] for pin in pins] == ["1970"], "'latest' must not mean a pin"
    restic(chain, "prune", "--max-unused", "0")
    check_repository(chain)
    for path, data in withheld.items():
        path.write_bytes(data)
    result = chain.receive()
    assert (result.versions_stored, result.blobs_missing) == (1, 0)
    assert_restores(chain, client, "restored")
    assert "cdr-pin" not in restic(chain, "snapshots")


def test_blobs_lost_with_their_pin_are_asked_for_and_never_pinned_again(chain: Chain) -> None:
    forger = Forger(chain)
    first, second = plain(b"first" * 100), plain(b"second" * 100)
    forger.put_segments([forger.records(first)])
    chain.receive()
    restic(chain, "forget", "--prune", "latest")
    forger.put_segments([forger.records(second)])
    chain.receive()
    assert forger.receipt().missing == [(BlobType.DATA, first.id)]
    check_repository(chain)
    tree = encode_tree([file_node("a", first.data), file_node("b", second.data)])
    forger.send_version([first], tree)
    assert chain.receive().versions_stored == 1
    assert forger.receipt().missing == []
    check_repository(chain)


def test_a_version_that_relies_on_what_restic_forgot_is_completed_before_it_commits(chain: Chain) -> None:
    client, _ = prepare(chain)
    chain.receive()
    chain.send(client)
    restic(chain, "forget", "--prune", "--host", client.name, "latest")
    folder = chain.base / "alice-source"
    (folder / "file0").write_bytes(b"changed")
    chain.backup(client, folder)
    chain.send(client)
    result = chain.receive()
    assert result.versions_stored == 0
    assert result.blobs_missing > 0
    assert restic(chain, "snapshots", "--host", client.name, "--json").strip() in ("null", "[]")
    check_repository(chain)
    chain.send(client)
    chain.backup(client, folder)
    chain.deliver(client)
    assert newest(chain, client) == "committed"
    assert_restores(chain, client, "restored")


def test_a_top_tier_that_lost_its_state_goes_on_from_the_repository(chain: Chain) -> None:
    client, _ = prepare(chain)
    chain.receive()
    chain.send(client)
    chain.top.close()
    (chain.base / "top-state").rename(chain.base / "lost-state")
    chain.top = chain.new_top()
    folder = chain.base / "alice-source"
    (folder / "file0").write_bytes(b"changed")
    chain.backup(client, folder)
    chain.deliver(client)
    assert newest(chain, client) == "committed"
    assert client.state.queue() == (0, 0)
    assert_restores(chain, client, "restored")


def test_repositories_that_cannot_be_used_are_named_and_nothing_is_lost(chain: Chain) -> None:
    client, sent = prepare(chain)
    before = {path: path.read_bytes() for path in sent}
    locked = chain.repository / "locks" / hold_lock(chain)
    with pytest.raises(LockedError, match="lock"):
        chain.receive()
    locked.unlink()
    options = chain.top.options
    chain.top.options = type(options)(password=lambda: "wrong", state=options.state)
    with pytest.raises(WrongPasswordError):
        chain.receive()
    chain.top.options = options
    chain.repository.rename(chain.base / "unplugged")
    with pytest.raises(NoRepositoryError):
        chain.receive()
    (chain.base / "unplugged").rename(chain.repository)
    assert {path: path.read_bytes() for path in segments(chain, client)} == before
    assert chain.receive().versions_stored == 1
    assert_restores(chain, client, "restored")


def hold_lock(chain: Chain) -> str:
    """An exclusive lock of somebody else in the repository; its file's name."""
    storage = LocalStorage(str(chain.repository))
    lock = {"time": now_text(), "exclusive": True, "hostname": "elsewhere", "username": "ann", "pid": 77}
    return SealedFiles(storage, find_key(storage, PASSWORD).master, 2).save(FileKind.LOCKS, msgspec.json.encode(lock))
