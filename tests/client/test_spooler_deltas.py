"""What a client spools can be decoded in its order, by who holds nothing but what it was sent."""

from __future__ import annotations

import os
import random
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdr_plugin.client.encoding import Encoding
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.rows import blob_key
from cdr_plugin.client.states import SegmentEvent, SegmentState
from cdr_plugin.contracts import Decoder, Differ, Encoder, OldContent
from cdr_plugin.errors import NotFoundError, StorageFullError
from cdr_plugin.model.blobs import PLAIN, BlobId, BlobType, Buffer, Payload, blob_id, verify_blob
from cdr_plugin.model.trees import decode_tree
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.plugins import installed
from tests.support.hierarchy import Hierarchy

DATA, TREE = BlobType.DATA, BlobType.TREE


class Receiver:
    """Decodes payloads as they come; possession is all that it has."""

    def __init__(self) -> None:
        self.held: dict[tuple[BlobType, BlobId], bytes] = {}
        self.deltas = 0
        self._decoders: dict[str, Decoder] = {}

    def take(self, payload: Payload) -> None:
        data = bytes(payload.data)
        if payload.method != PLAIN:
            if payload.method not in self._decoders:
                decoder = installed().reduction_method(payload.method).decoder()
                assert decoder is not None
                self._decoders[payload.method] = decoder
            self.deltas += bool(self._decoders[payload.method].bases(data))
            data = self._decoders[payload.method].decode(data, payload.length, self._fetch)
        assert len(data) == payload.length
        verify_blob(payload.type, payload.id, data)
        assert (payload.type, payload.id) not in self.held, "sent twice"
        self.held[payload.type, payload.id] = data

    def _fetch(self, type_: BlobType, id_: BlobId) -> bytes:
        if (type_, id_) not in self.held:
            raise NotFoundError("not in possession")
        return self.held[type_, id_]

    def assert_holds(self, tree: BlobId) -> None:
        for node in decode_tree(self.held[TREE, tree]):
            if node.type == "dir":
                self.assert_holds(BlobId(bytes.fromhex(node.subtree)))
            for id_ in node.content or ():
                assert (DATA, BlobId(bytes.fromhex(id_))) in self.held


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Hierarchy:
    base = tmp_path_factory.mktemp("fresh")
    return Hierarchy.make(base / "base", base / "source", methods=("delta", "zstd"))


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """Takes every payload in the order in which it is spooled."""
    found = Receiver()

    class Builder(SegmentBuilder):
        def add_payload(self, payload: Payload) -> Any:
            found.take(payload)
            return super().add_payload(payload)

    monkeypatch.setattr("cdr_plugin.client.backup.SegmentBuilder", Builder)
    return found


def populate(source: Path, chance: random.Random) -> None:
    for number in range(12):
        path = source / f"folder{number % 3}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(chance, chance.choice([0, 100, 5000, 60_000, 700_000])))


def content(chance: random.Random, size: int) -> bytes:
    return b"compresses well " * (size // 32) + chance.randbytes(size - size // 32 * 16)


def disturb(source: Path, chance: random.Random) -> None:
    """One random change."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    file = chance.choice(files)
    data = bytearray(file.read_bytes())
    at = chance.randrange(len(data) + 1)
    match chance.randrange(8):
        case 0:
            file.write_bytes(data[:at] + chance.randbytes(chance.choice([1, 50, 3000])) + data[at:])
        case 1:
            data[at : at + 10] = chance.randbytes(10)
            with file.open("r+b") as opened:
                opened.write(data)
        case 2:
            file.write_bytes(data[:at])
        case 3:
            file.rename(file.with_name(f"{file.name}-{chance.getrandbits(20)}"))
        case 4:
            file.with_name(f"{file.name}-copy{chance.getrandbits(20)}").write_bytes(data[:at] + b"copy" + data[at:])
        case 5 if len(files) > 1:
            file.unlink()
        case 6:
            file.parent.rename(source / f"moved{chance.getrandbits(20)}")
        case _:
            file.write_bytes(content(chance, chance.randrange(100_000)))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), keeps_copy=st.booleans())
def test_versions_of_any_tree_decode_in_order(
    tmp_path: Path, fresh: Hierarchy, receiver: Receiver, seed: int, keeps_copy: bool
) -> None:
    receiver.held.clear()
    chance = random.Random(seed)
    base = tmp_path / f"{seed}-{keeps_copy}"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    world = fresh.copy(base / "base")
    world.source, world.keeps_copy = base / "source", keeps_copy
    world.source.mkdir()
    populate(world.source, chance)
    for _ in range(4):
        made = world.backup()
        assert made.archive.root_tree == world.source_tree()
        receiver.assert_holds(made.archive.root_tree)
        if chance.random() < 0.2:
            lose_some(world, receiver, chance)
        for _ in range(chance.randrange(6)):
            disturb(world.source, chance)
    shutil.rmtree(base)


def lose_some(world: Hierarchy, receiver: Receiver, chance: random.Random) -> None:
    """The receiver has lost blobs, and the client has heard so: nothing may build on them before they came again."""
    lost = chance.sample(sorted(receiver.held), min(5, len(receiver.held)))
    with closing(world.client().state) as state:
        keys = [blob_key(*blob) for blob in lost]
        state.advance(state.segments(SegmentState.SPOOLED), SegmentEvent.TAKE)
        assert state.wanted.want(keys) == len(keys)
        state.wanted.lose(keys)
    for blob in lost:
        del receiver.held[blob]


def test_deltas_are_made_and_a_run_that_failed_is_built_on(
    tmp_path: Path, fresh: Hierarchy, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fresh.copy(tmp_path / "base")
    world.source = tmp_path / "source"
    world.source.mkdir()
    (world.source / "a").write_bytes(random.Random(1).randbytes(3_000_000))
    world.backup()
    assert receiver.deltas == 0
    with (world.source / "a").open("r+b") as file:
        file.seek(1_000_000)
        file.write(b"changed")

    with monkeypatch.context() as patch, pytest.raises(StorageFullError):
        patch.setattr("cdr_plugin.client.backup._Run._capture", full)
        world.backup()
    assert receiver.deltas >= 1
    before = len(receiver.held)
    with (world.source / "a").open("r+b") as file:
        file.seek(2_500_000)
        file.write(b"changed")
    made = world.backup()
    receiver.assert_holds(made.archive.root_tree)
    assert len(receiver.held) - before <= 3 and made.spool.spooled_bytes < 8000


def full(*_: object) -> None:
    raise StorageFullError("full")


# --- which encoding travels, and what is remembered


class Fixed(Encoder):
    """Gives what it was told to."""

    def __init__(self, encoded: bytes | None = None, delta: bytes | None = None, memory: bytes = b"") -> None:
        self._encoded, self._delta, self._memory = encoded, delta, memory

    def encode(self, blob: Buffer) -> Buffer | None:
        return self._encoded

    def remember(self, blob: Buffer, offset: int) -> bytes:
        return self._memory

    def differ(self, old: OldContent) -> Differ | None:
        return None if self._delta is None else FixedDiffer(self._delta)


class FixedDiffer(Differ):
    def __init__(self, delta: bytes) -> None:
        self._delta = delta

    def encode(self, blob: Buffer, offset: int) -> Buffer | None:
        return self._delta or None


class Kept:
    """What an encoding asks of the baseline of its run."""

    def __init__(self, keeps_data: bool) -> None:
        self.keeps = {TREE: True, DATA: keeps_data}

    def old_content(self, label: str, type_: BlobType, ids: bytes) -> None:
        return None


class Older:
    def __init__(self, ids: bytes) -> None:
        self.ids = ids


@pytest.mark.parametrize("type_", list(BlobType))
@pytest.mark.parametrize(
    ("encoders", "older", "expected"),
    [
        ([], True, (PLAIN, b"the blob")),
        ([Fixed(None), Fixed(b"longer than it was")], False, ("m1", b"longer than it was")),
        ([Fixed(b"12345"), Fixed(b"1234")], False, ("m1", b"1234")),
        ([Fixed(b"1234"), Fixed(b"1234")], False, ("m0", b"1234")),
        ([Fixed(None, b"123"), Fixed(b"1234")], True, ("m0", b"123")),
        ([Fixed(None, b"123"), Fixed(b"1234")], False, ("m1", b"1234")),
        ([Fixed(None, b""), Fixed(b"1234")], True, ("m1", b"1234")),
        ([Fixed(None, b""), Fixed(b"1234", b"12")], True, ("m1", b"12")),
    ],
)
def test_the_smallest_encoding_travels(
    type_: BlobType, encoders: list[Fixed], older: bool, expected: tuple[str, bytes]
) -> None:
    labelled = [(f"m{number}", encoder) for number, encoder in enumerate(encoders)]
    for keeps_data in (False, True):
        encoding = Encoding(lambda: labelled, Kept(keeps_data))  # type: ignore[arg-type]
        origin = Older(bytes(32)) if older else None
        ((payload, memories, kept),) = encoding.encode(type_, [(blob_id(b"the blob"), b"the blob", 0, origin)])  # type: ignore[list-item]
        assert (payload.method, payload.data) == expected
        assert (payload.type, payload.id, payload.length) == (type_, blob_id(b"the blob"), 8)
        assert not memories and (kept is not None) == (type_ is TREE or keeps_data)
        if kept is not None:
            whole = [(label, encoder.encode(b"")) for label, encoder in labelled if encoder.encode(b"") is not None]
            assert (kept.method, kept.data) in [*whole, (PLAIN, b"the blob")]


def test_memories_are_made_of_data_blobs_by_each_method_that_has_one() -> None:
    labelled = [("m0", Fixed(memory=b"of the first")), ("m1", Fixed(b"1")), ("m2", Fixed(memory=b"of the third"))]
    encoding = Encoding(lambda: labelled, Kept(False))  # type: ignore[arg-type]
    ((_, memories, _),) = encoding.encode(DATA, [(blob_id(b"x"), b"x", 0, None)])
    assert list(memories) == [("m0", b"of the first"), ("m2", b"of the third")]
    ((_, memories, _),) = encoding.encode(TREE, [(blob_id(b"x"), b"x", 0, None)])
    assert not memories


def test_all_blobs_of_a_file_share_one_differ() -> None:
    made: list[OldContent] = []

    class Counting(Fixed):
        def differ(self, old: OldContent) -> Differ | None:
            made.append(old)
            return FixedDiffer(b"1")

    encoding = Encoding(lambda: [("m", Counting())], Kept(False))  # type: ignore[arg-type]
    origins = [Older(bytes(32)), Older(bytes(32))]
    for number in range(10):
        encoding.encode(DATA, [(blob_id(b"%d" % number), b"%d" % number, number, origins[number % 2])])  # type: ignore[list-item]
    assert len(made) == 2


def test_what_was_known_from_the_start_is_told_from_what_was_added() -> None:
    ids = [BlobId(os.urandom(32)) for _ in range(3)]
    known = KnownBlobs([blob_key(DATA, ids[0])])
    known.add(DATA, ids[1])
    known.add(DATA, ids[0])
    assert [known.from_the_start(DATA, id_) for id_ in ids] == [True, False, False]
    assert not known.from_the_start(TREE, ids[0])
