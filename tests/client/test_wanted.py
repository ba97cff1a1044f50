"""A blob is known, wanted, lost or unknown; what is on its way is not asked for twice."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.client.rows import cut_keys
from cdr_plugin.client.state import ClientState
from cdr_plugin.client.states import SegmentEvent, SegmentState
from tests.support.memory import folder_in_memory


def key(number: int) -> bytes:
    return b"\0" + sha256(bytes([number])).digest()


@pytest.fixture
def folder() -> Iterator[Path]:
    with folder_in_memory() as path:
        yield path


@pytest.fixture
def state(folder: Path) -> Iterator[ClientState]:
    made = ClientState(folder)
    parcel = made.open_parcel(bytes(16), b"secret")
    for index in range(4):
        made.add_segment(parcel, index, 100, bytes(32), b"".join(key(index * 3 + at) for at in range(3)))
    yield made
    made.close()


def known(state: ClientState) -> set[bytes]:
    return {one for keys in state.known() for one in cut_keys(keys)}


def wanted(state: ClientState) -> set[bytes]:
    return {blob.key for blob in state.wanted.all()}


def take(state: ClientState, *indexes: int) -> None:
    rows = [row for row in state.segments(SegmentState.SPOOLED) if row.index in indexes]
    state.advance(rows, SegmentEvent.TAKE)


def test_what_is_on_its_way_is_not_wanted(state: ClientState) -> None:
    take(state, 0)
    assert state.wanted.want({key(0), key(3)}) == 1
    assert wanted(state) == {key(0)}
    assert known(state) == {key(number) for number in range(1, 12)}
    assert [(blob.parcel, blob.index) for blob in state.wanted.all()] == [(1, 0)]


def test_what_was_wanted_is_known_again_when_it_is_spooled(state: ClientState) -> None:
    take(state, 0)
    state.wanted.want({key(0), key(1), key(99)})
    parcel = state.open_parcel(b"a" * 16, b"secret", answers=True)
    state.add_segment(parcel, 0, 10, bytes(32), key(0) + key(99))
    assert wanted(state) == {key(1)}
    assert {key(0), key(99)} <= known(state)
    assert state.wanted.want({key(0)}) == 0
    assert [row.parcel_ord for row in state.segments(SegmentState.SPOOLED)] == [parcel, 1, 1, 1]


def test_a_lost_segment_takes_the_blob_with_it_that_goes_on_in_the_next(state: ClientState) -> None:
    row = state.segments(SegmentState.SPOOLED)[1]
    state.lose(row)
    assert wanted(state) == {key(3), key(4), key(5), key(6)}
    assert known(state) == {key(number) for number in (0, 1, 2, 7, 8, 9, 10, 11)}
    assert [row.index for row in state.segments(SegmentState.SPOOLED)] == [0, 2, 3]


def test_what_nobody_has_is_noted_until_nobody_asks(state: ClientState) -> None:
    before = state.catalog_generation
    take(state, 0)
    state.wanted.want({key(0), key(1)})
    state.wanted.lose({key(0)})
    assert (wanted(state), state.catalog_generation) == ({key(1)}, before + 1)
    assert state.wanted.want({key(0)}) == 0
    state.wanted.forget_lost({key(0)})
    assert state.wanted.want({key(0)}) == 0
    state.wanted.forget_lost(set())
    assert state.wanted.want({key(0)}) == 1


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["want", "take", "lose", "answer", "give up"]), st.integers(0, 11)), max_size=12
    )
)
def test_no_blob_is_two_things_whatever_happens(steps: list[tuple[str, int]]) -> None:
    with folder_in_memory() as path:
        state = ClientState(path)
        parcel = state.open_parcel(bytes(16), b"secret")
        for index in range(4):
            state.add_segment(parcel, index, 100, bytes(32), b"".join(key(index * 3 + at) for at in range(3)))
        for position, (action, number) in enumerate(steps):
            if action == "want":
                state.wanted.want({key(number), key((number * 5) % 12)})
            elif action == "take":
                take(state, number % 4)
            elif action == "lose":
                for row in state.segments(SegmentState.SPOOLED, SegmentState.SENT, SegmentState.TAKEN)[:1]:
                    state.lose(row)
            elif action == "answer" and wanted(state):
                answers = state.open_parcel(bytes([position + 1]) * 16, b"secret", answers=True)
                state.add_segment(answers, 0, 10, bytes(32), min(wanted(state)))
            elif wanted(state):
                state.wanted.lose({max(wanted(state))})
            assert not known(state) & wanted(state)
        state.close()


def test_room_is_made_of_what_is_taken_first_then_of_what_was_sent_the_oldest_first(state: ClientState) -> None:
    rows = state.segments(SegmentState.SPOOLED)
    assert state.holdings.replaceable_by_recipes() == []
    state.advance(rows[:3], SegmentEvent.SEND)
    take(state, 3)
    assert [row.index for row in state.holdings.replaceable_by_recipes()] == [3, 0, 1, 2]
    state.holdings.drop(state.holdings.replaceable_by_recipes()[:2])
    assert [row.index for row in state.holdings.replaceable_by_recipes()] == [1, 2]
    assert state.holdings.size() == 200
