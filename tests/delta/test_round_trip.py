"""What is encoded against any older content decodes to itself, and is never larger than its zstd frame."""

from __future__ import annotations

import random
import threading
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_delta.payload import MAX_BASES
from cdr_plugin.model.blobs import BlobType, blob_id
from cdr_zstd.plugin import ZstdMethod
from tests.delta.old_contents import METHOD, Bases, Content, Held, cut, decode, differ, encoder, remembered, words

PARTS = [random.Random(1).randbytes(3000), words(2, 5000), bytes(4000), b"abc" * 700, words(3, 12_000)]


@st.composite
def edits(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An old content, and a new one: bytes moved, inserted, deleted, overwritten, repeated, cut off."""
    old = b"".join(draw(st.lists(st.sampled_from(PARTS), max_size=6)))
    new = bytearray(old)
    place = st.integers(0, max(len(old), 1))
    for _ in range(draw(st.integers(0, 4))):
        at, other, size = draw(place), draw(place), draw(st.integers(0, 6000))
        match draw(st.sampled_from(["insert", "delete", "overwrite", "move", "truncate", "replace"])):
            case "insert":
                new[at:at] = draw(st.binary(max_size=700))
            case "delete":
                del new[at : at + size]
            case "overwrite":
                new[at : at + 40] = draw(st.binary(max_size=40))
            case "move":
                new[at:at] = new[other : other + size]
            case "truncate":
                del new[at:]
            case "replace":
                new[:] = draw(st.binary(max_size=3000))
    return old, bytes(new)


@settings(max_examples=300, deadline=None)
@given(
    edits(),
    st.lists(st.integers(0, 40_000), max_size=4),
    st.lists(st.integers(0, 40_000), max_size=3),
    st.sampled_from(["memory", "data", "both", "some", "strange"]),
    st.sampled_from([512, 1024]),
)
def test_decode_of_encode_is_the_blob_and_no_larger_than_its_frame(
    pair: tuple[bytes, bytes], old_cuts: list[int], new_cuts: list[int], kept: str, block_size: int
) -> None:
    old, new = pair
    content = remembered(cut(old, old_cuts), block_size, with_data=kept not in ("memory", "strange"))
    bases = _kept(content, kept)
    made = differ(Bases(bases), block_size)
    zstd = ZstdMethod().encoder({})
    at = 0
    for blob in cut(new, new_cuts):
        payload = made.encode(blob, at)
        at += len(blob)
        if payload is None:
            continue
        assert len(payload) < len(zstd.encode(blob))  # type: ignore[arg-type]
        assert {base.id for base in bases if base} >= set(METHOD.decoder().bases(payload))
        assert decode(payload, len(blob), content.fetch) == blob


def _kept(content: Content, kept: str) -> list[Held | None]:
    if kept == "data":
        return [base and replace(base, memory=b"") for base in content.bases]
    if kept == "some":
        some = [base if n % 3 else None for n, base in enumerate(content.bases)]
        return [base and replace(base, data=None if n % 2 else base.data) for n, base in enumerate(some)]
    if kept == "strange":
        # As where a blob was remembered at another offset of another file.
        made = encoder()
        return [
            base and replace(base, memory=made.remember(blob, 77 * n))
            for n, (base, blob) in enumerate(zip(content.bases, content.blobs, strict=True))
        ]
    return content.bases


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_tiny_contents_are_encoded_or_left(old: bytes, new: bytes) -> None:
    content = remembered([old], with_data=True)
    payload = differ(Bases(content.bases)).encode(new, 0)
    assert payload is None or decode(payload, len(new), content.fetch) == new


def test_a_page_changed_in_place_costs_about_a_block() -> None:
    old = random.Random(5).randbytes(1 << 20)
    new = bytearray(old)
    new[500_000:500_100] = bytes(100)
    content = remembered(cut(old, [300_000, 700_001]))
    payload = differ(Bases(content.bases)).encode(bytes(new), 0)
    assert payload is not None
    assert len(payload) <= 3 * 36 + 512 + 20
    assert decode(payload, len(new), content.fetch) == new


def test_bytes_inserted_at_the_start_cost_themselves_and_a_base() -> None:
    old = random.Random(6).randbytes(1 << 20)
    new = b"inserted" + old
    content = remembered([old])
    payload = differ(Bases(content.bases)).encode(new, 0)
    assert payload is not None
    assert len(payload) <= 80
    assert decode(payload, len(new), content.fetch) == new


def test_with_old_bytes_a_changed_number_costs_a_few_bytes() -> None:
    old = words(7, 1 << 20)
    new = bytearray(old)
    for at in range(1000, len(new), 100_000):
        new[at : at + 4] = b"1234"
    content = remembered(cut(old, [300_000, 700_001]), with_data=True)
    payload = differ(Bases(content.bases)).encode(bytes(new), 0)
    assert payload is not None
    assert len(payload) <= 3 * 36 + 11 * 20
    assert decode(payload, len(new), content.fetch) == new


@pytest.mark.parametrize("nodes", [1, 10, 100, 1000])
def test_a_tree_of_which_one_node_changed_takes_about_150_bytes(nodes: int) -> None:
    maker = random.Random(nodes)
    lines = [
        f'{{"name":"f{n}","mtime":"{maker.random()}","content":["{maker.randbytes(32).hex()}"]}}' for n in range(nodes)
    ]
    old = ",".join(lines).encode()
    lines[nodes // 2] = lines[nodes // 2][:30] + maker.randbytes(40).hex() + '"]}'
    new = ",".join(lines).encode()
    base = Held(blob_id(old), len(old), b"", old)
    payload = differ(Bases([base], BlobType.TREE)).encode(new, 0)
    if nodes == 1:
        return
    assert payload is not None
    assert len(payload) <= 160
    asked = []

    def fetch(type_: BlobType, id_: bytes) -> bytes:
        asked.append((type_, id_))
        return old

    assert decode(payload, len(new), fetch) == new
    assert asked == [(BlobType.TREE, base.id)]


def test_incompressible_blobs_without_a_match_are_left() -> None:
    old, new = random.Random(8).randbytes(100_000), random.Random(9).randbytes(100_000)
    for with_data in (False, True):
        assert differ(Bases(remembered([old], with_data=with_data).bases)).encode(new, 0) is None


def test_blobs_that_are_smaller_alone_are_left() -> None:
    zeros = bytes(200_000)
    for with_data in (False, True):
        assert differ(Bases(remembered([zeros], with_data=with_data).bases)).encode(zeros + b"x", 0) is None


def test_empty_blobs_and_empty_contents_have_no_delta() -> None:
    assert differ(Bases([])).encode(b"x" * 5000, 0) is None
    assert differ(Bases([None, None])).encode(b"x" * 5000, 0) is None
    assert differ(Bases(remembered([b"x" * 5000]).bases)).encode(b"", 0) is None
    assert encoder().encode(b"x" * 5000) is None


def test_no_more_bases_than_a_payload_may_name() -> None:
    blobs = [random.Random(n).randbytes(2048) for n in range(3 * MAX_BASES)]
    new = b"".join(blob[:1024] for blob in blobs)
    content = remembered(blobs)
    payload = differ(Bases(content.bases)).encode(new, 0)
    assert payload is not None
    assert len(METHOD.decoder().bases(payload)) == MAX_BASES
    assert decode(payload, len(new), content.fetch) == new


def test_a_blob_that_occurs_often_is_one_base() -> None:
    repeated, other = random.Random(10).randbytes(4096), random.Random(11).randbytes(4096)
    content = remembered([repeated, repeated, other, repeated])
    new = b"x" + repeated + repeated + other + b"y" + repeated
    payload = differ(Bases(content.bases)).encode(new, 0)
    assert payload is not None
    assert list(METHOD.decoder().bases(payload)) == [blob_id(repeated), blob_id(other)]
    assert decode(payload, len(new), content.fetch) == new


def test_long_literals_go_in_several_frames() -> None:
    copied, fresh = random.Random(12).randbytes(100_000), words(13, 9_000_000)
    content = remembered([copied], with_data=True)
    new = copied + fresh
    payload = differ(Bases(content.bases)).encode(new, 0)
    assert payload is not None
    assert decode(payload, len(new), content.fetch) == new


def test_old_bytes_that_vanish_meanwhile_are_done_without() -> None:
    old = words(14, 500_000)
    content = remembered([old], with_data=True)

    class Vanishing(Bases):
        def data(self, position: int) -> bytes | None:
            return None

    bases = Vanishing([*content.bases, *remembered([bytes(9_000_000)], with_data=True).bases])
    new = old[:300_000] + b"new" + old[300_003:]
    payload = differ(bases).encode(new, 0)
    assert payload is not None
    assert bases.asked == [0, 1]
    assert decode(payload, len(new), content.fetch) == new


def test_threads_encode_as_one_does() -> None:
    old = random.Random(15).randbytes(4 << 20)
    new = bytearray(old)
    for at in range(0, len(new), 50_000):
        new[at : at + 3] = b"new"
    content = remembered(cut(old, range(0, len(old), 300_000)), with_data=True)
    blobs = [(at, bytes(new[at : at + 100_000])) for at in range(0, len(new), 100_000)]
    alone = differ(Bases(content.bases))
    expected = {at: alone.encode(blob, at) for at, blob in blobs}
    shared = differ(Bases(content.bases))
    found: dict[int, object] = {}

    def work(part: int) -> None:
        for at, blob in blobs[part::4]:
            found[at] = shared.encode(blob, at)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected
    assert None not in expected.values()
