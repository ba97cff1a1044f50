"""Content that bears a valid seal may still be hostile: whoever has written once had the key. Checking ends with a
report, or with one of our own errors, and in bounded memory."""

from __future__ import annotations

import json
import os
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.care import CheckOptions, CheckReport
from cdr_plugin.model.blobs import BlobType, Buffer
from cdr_plugin.model.versions import Snapshot, encode_snapshot
from cdr_restic.care.check import check
from cdr_restic.crypto import OVERHEAD, Sealer
from cdr_restic.files import SealedFiles
from cdr_restic.index import IndexedPack, encode_index
from cdr_restic.local import LocalStorage
from cdr_restic.packs import PackEntry, encode_header
from cdr_restic.storage import FileKind, Storage, is_file_name
from cdr_restic.verifying import PackVerdict, PackVerifier
from tests.restic.test_hostile_bytes import JSON
from tests.restic.test_keys import MASTER
from tests.restic.world import TIME, Place, make_place, some_blobs, write_version

_MAX_PEAK_BYTES = 32 * 1024 * 1024


class InMemory(Storage):
    """A repository in a dict, which a test may change as it likes."""

    location = "memory"

    def __init__(self, files: dict[tuple[FileKind, str], bytes]) -> None:
        self.files = files

    @classmethod
    def of(cls, place: Place) -> InMemory:
        storage = LocalStorage(str(place.folder))
        names = [(kind, name) for kind in FileKind if kind is not FileKind.CONFIG for name in storage.list(kind)]
        return cls({file: storage.load(*file) for file in [*names, (FileKind.CONFIG, "")]})

    def make_folders(self) -> None:
        """Nothing to make."""

    def save(self, kind: FileKind, name: str, data: Buffer) -> None:
        self.files[kind, name] = bytes(data)

    def load_part(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self.files[kind, name][offset : offset + length]

    def size(self, kind: FileKind, name: str) -> int:
        return len(self.files[kind, name])

    def list(self, kind: FileKind) -> Iterator[str]:
        return iter([name for found, name in self.files if found is kind and is_file_name(name)])

    def remove(self, kind: FileKind, name: str) -> None:
        self.files.pop((kind, name), None)


@dataclass
class World:
    """A sound repository of version 2, and what it takes to add to copies of it."""

    place: Place
    sound: dict[tuple[FileKind, str], bytes]

    def copy(self) -> InMemory:
        return InMemory(dict(self.sound))

    def files(self, storage: InMemory) -> SealedFiles:
        return SealedFiles(storage, self.place.key, 2)

    def check(self, storage: InMemory) -> CheckReport:
        with self.place.repository(storage).exclusive(only_looks=True, with_versions=False) as held:
            return check(held, CheckOptions(read_data=True), workers=0)

    def json(self, kind: FileKind) -> Any:
        """What the first file of a kind says."""
        storage = self.copy()
        return json.loads(self.files(storage).load(kind, next(storage.list(kind))))

    def add_pack(self, storage: InMemory, bodies: bytes, header: bytes, listed: list[PackEntry]) -> None:
        sealed = Sealer(self.place.key).seal(header)
        pack = bodies + sealed + len(sealed).to_bytes(4, "little")
        name = sha256(pack).hexdigest()
        storage.save(FileKind.DATA, name, pack)
        self.files(storage).save(FileKind.INDEX, encode_index([IndexedPack(name, listed)]))

    def add_tree(self, storage: InMemory, data: bytes) -> None:
        """A version of that tree."""
        sealed = Sealer(self.place.key).seal(data)
        entry = PackEntry(BlobType.TREE, sha256(data).digest(), 0, len(sealed), 0)
        self.add_pack(storage, sealed, encode_header([entry]), [entry])
        snapshot = Snapshot(time=TIME, tree=entry.id.hex(), paths=["/"])
        self.files(storage).save(FileKind.SNAPSHOTS, encode_snapshot(snapshot))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    place = make_place(tmp_path_factory.mktemp("sealed"))
    with place.repository().writing() as session:
        write_version(session, some_blobs(5))
    return World(place, InMemory.of(place).files)


def test_what_nobody_touched_is_sound(world: World) -> None:
    storage = world.copy()
    world.add_tree(storage, b'{"nodes":[]}\n')
    report = world.check(storage)
    assert (report.errors, report.hints, report.versions) == ([], [], 2)


def _replace_somewhere(data: st.DataObject, document: Any) -> Any:
    """Any JSON in place of some part of the document."""
    if isinstance(document, dict) and document and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(document)))
        return {**document, key: _replace_somewhere(data, document[key])}
    if isinstance(document, list) and document and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(document) - 1))
        return [*document[:at], _replace_somewhere(data, document[at]), *document[at + 1 :]]
    return data.draw(JSON | st.sampled_from(["00" * 32, "zz" * 32, " " * 64, "ab" * 32, 2**32 - 1, 2**63, -1]))


@pytest.mark.parametrize("kind", [FileKind.INDEX, FileKind.SNAPSHOTS])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_sealed_file_of_any_json_is_reported_or_read(world: World, kind: FileKind, data: st.DataObject) -> None:
    storage = world.copy()
    if data.draw(st.booleans()):
        storage.remove(kind, next(storage.list(kind)))
    document = _replace_somewhere(data, world.json(kind))
    world.files(storage).save(kind, json.dumps(document).encode())
    _report(world, storage)


TREE = {"nodes": [
    {"name": "f", "type": "file", "content": ["ab" * 32], "size": 3},
    {"name": "d", "type": "dir", "content": None, "subtree": "cd" * 32},
]}


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_sealed_tree_of_any_json_is_reported_or_read(world: World, data: st.DataObject) -> None:
    storage = world.copy()
    text = json.dumps(_replace_somewhere(data, TREE)).encode()
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(text)))
        text = text[:at] + data.draw(st.binary(max_size=4)) + text[at + data.draw(st.integers(0, 4)) :]
    world.add_tree(storage, text)
    assert _report(world, storage).versions == 2


def test_a_tree_of_brackets_is_an_error_and_no_crash(world: World) -> None:
    storage = world.copy()
    world.add_tree(storage, b'{"nodes":' + b"[" * 200_000)
    assert any("is no tree" in finding.text for finding in _report(world, storage).errors)


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_a_pack_whose_sealed_header_and_index_say_anything_is_reported(world: World, data: st.DataObject) -> None:
    storage = world.copy()
    sizes = st.integers(0, 200) | st.sampled_from([2**31, 2**32 - 1])
    entries = data.draw(
        st.lists(st.builds(PackEntry, st.sampled_from(BlobType), st.just(b"i" * 32), sizes, sizes, sizes), max_size=4)
    )
    header = bytearray(encode_header(entries) or b"?")
    header[data.draw(st.integers(0, len(header) - 1))] ^= data.draw(st.integers(0, 255))
    world.add_pack(storage, data.draw(st.binary(max_size=300)), bytes(header), entries)
    report = _report(world, storage)
    assert report.errors or not any(entry.length >= OVERHEAD for entry in entries)


def _report(world: World, storage: InMemory) -> CheckReport:
    """The report; CdrError would be one too many, since all of this is damage to be named."""
    report = world.check(storage)
    assert all(finding.text for finding in [*report.errors, *report.hints])
    return report


# --- memory ---


def _verify(pack: bytes, listed: list[PackEntry] | None) -> tuple[PackVerdict, int]:
    """The verdict, and how many bytes it took at most beyond what there was."""
    with tempfile.TemporaryFile() as file:
        file.write(pack)
        file.flush()
        verifier = PackVerifier(MASTER)
        tracemalloc.start()
        try:
            return verifier.verify(file.fileno(), "0" * 64, listed), tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def _sealed_pack(*plaintexts: bytes, plain: int = 0) -> tuple[bytes, list[PackEntry]]:
    sealer, pack, entries = Sealer(MASTER), bytearray(), []
    for text in plaintexts:
        sealed = sealer.seal(text)
        entries.append(PackEntry(BlobType.DATA, sha256(text).digest(), len(pack), len(sealed), plain))
        pack += sealed
    header = sealer.seal(encode_header(entries))
    return bytes(pack) + header + len(header).to_bytes(4, "little"), entries


def test_a_frame_that_decodes_to_more_than_it_may_is_refused_in_little_memory() -> None:
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(256 * 1024 * 1024))
    verdict, peak = _verify(*_sealed_pack(bomb, plain=1000))
    assert "does not decode" in verdict.lost[0][1]
    assert peak < _MAX_PEAK_BYTES


def test_lengths_that_an_index_claims_allocate_nothing() -> None:
    pack, entries = _sealed_pack(b"small", b"blobs")
    claims = [entries[0]._replace(length=2**32 - 1), entries[1]._replace(plain=2**32 - 1)]
    claims += [entries[0]._replace(offset=2**32 - 1 - 40, length=40)]
    verdict, peak = _verify(pack, claims)
    assert [number for number, _ in sorted(verdict.lost)] == [0, 1, 2]
    assert peak < _MAX_PEAK_BYTES


def test_a_pack_larger_than_the_window_is_read_in_little_memory() -> None:
    blobs = [os.urandom(300_000) for _ in range(80)]
    pack, entries = _sealed_pack(*blobs)
    verdict, peak = _verify(pack, entries)
    assert verdict.problems == ["its SHA-256 differs from its name"]
    assert not verdict.lost
    assert peak < 8 * 1024 * 1024


@given(st.lists(st.integers(0, 3_000_000), max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=15, deadline=None)
def test_blobs_of_any_size_are_verified_in_any_order_of_the_index(sizes: list[int], source: Any) -> None:
    pack, entries = _sealed_pack(*(bytes([number]) * size for number, size in enumerate(sizes)))
    if not entries:
        return
    shuffled = source.sample(entries, len(entries))
    with tempfile.TemporaryFile() as file:
        file.write(pack)
        file.flush()
        verifier = PackVerifier(MASTER)
        for _ in range(2):  # the window is used again
            verdict = verifier.verify(file.fileno(), sha256(pack).hexdigest(), shuffled)
            assert verdict.good, verdict
