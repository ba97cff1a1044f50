"""What moved farther than the window reaches is found by a sample of all old blocks."""

from __future__ import annotations

import random
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cdr_delta.differ
from cdr_delta.window import Window
from cdr_plugin.contracts import Differ
from tests.delta.old_contents import Bases, Content, Held, cut, decode, differ, remembered, words

BLOBS = 40
BLOB_BYTES = 50_000
SMALL_WINDOW = 1024
"""Blocks: ten of the blobs."""


@pytest.fixture(autouse=True)
def _small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cdr_delta.differ, "Window", partial(Window, blocks=SMALL_WINDOW))


def content(kept: bool = False) -> Content:
    return remembered([random.Random(n).randbytes(BLOB_BYTES) for n in range(BLOBS)], with_data=kept)


def encode(made: Differ, blob: bytes, offset: int, old: Content) -> int:
    """Bytes of the payload, which decodes to the blob; the blob's own where there is none."""
    payload = made.encode(blob, offset)
    if payload is None:
        return len(blob)
    assert decode(payload, len(blob), old.fetch) == blob
    return len(payload)


@pytest.mark.parametrize("kept", [False, True])
def test_what_moved_from_end_to_beginning_and_back_is_found(kept: bool) -> None:
    old = content(kept)
    made = differ(Bases(old.bases))
    assert encode(made, b"moved" + old.blobs[-1], 0, old) < 1000
    assert encode(made, b"moved" + old.blobs[0], BLOBS * BLOB_BYTES, old) < 1000


def test_a_blob_from_many_far_ones_has_what_is_opposite_too() -> None:
    old = content()
    new = bytearray(old.blobs[0])
    for n in range(5):
        new[8000 * n + 100 : 8000 * n + 6100] = old.blobs[20 + 2 * n][1000:7000]
    assert encode(differ(Bases(old.bases)), bytes(new), 0, old) < 8000


def test_far_neighbours_are_copied_across_their_border() -> None:
    old = content()
    moved = old.blobs[30][40_000:] + old.blobs[31][:20_000]
    assert encode(differ(Bases(old.bases)), b"new" + moved, 0, old) < 1200


def test_nothing_more_is_read_where_the_window_has_enough() -> None:
    old = content()
    bases = Bases(old.bases)
    made = differ(bases)
    for n in range(BLOBS):
        changed = bytearray(old.blobs[n])
        changed[1000:1100] = bytes(100)
        assert encode(made, bytes(changed), n * BLOB_BYTES, old) < 1000
    assert bases.asked == list(range(BLOBS))


def test_all_is_read_once_more_where_it_has_not() -> None:
    old = content()
    bases = Bases(old.bases)
    made = differ(bases)
    for n in range(5):
        fresh = random.Random(1000 + n).randbytes(BLOB_BYTES)
        assert encode(made, fresh, n * BLOB_BYTES, old) == BLOB_BYTES
    assert sorted(set(bases.asked)) == list(range(BLOBS))
    assert len(bases.asked) <= 2 * BLOBS


def test_old_blobs_of_which_nothing_is_known_are_passed_over() -> None:
    old = content()
    some: list[Held | None] = [held if n in (0, 39) else None for n, held in enumerate(old.bases)]
    bases = [some[0], *remembered([words(n, 300_000) for n in range(4)]).bases, *some[1:]]
    assert encode(differ(Bases(bases)), b"moved" + old.blobs[39], 0, old) < 1000


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, BLOBS * BLOB_BYTES), st.integers(1, 120_000)), min_size=1, max_size=6),
    st.lists(st.integers(0, 10**6), max_size=4),
    st.booleans(),
)
def test_slices_from_anywhere_decode_to_themselves(
    slices: list[tuple[int, int]], new_cuts: list[int], kept: bool
) -> None:
    old = content(kept)
    whole = b"".join(old.blobs)
    new = b"-".join(whole[at : at + length] for at, length in slices)
    made = differ(Bases(old.bases))
    at = travels = 0
    for blob in cut(new, new_cuts):
        travels += encode(made, blob, at, old)
        at += len(blob)
    # In blocks of which one of four is in the sample, 40 in a row are not overlooked.
    missed = sum(min(length, 20_000) for _, length in slices) + 20_000 * len(new_cuts)
    assert travels <= missed + 500 * (len(slices) + len(new_cuts) + 1)
