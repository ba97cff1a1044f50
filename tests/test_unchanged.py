"""What a listing shows as it was is not read again, for an hour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.tier_state import TierState
from cdr_plugin.unchanged import REREAD_S, Unchanged, look_of

NOW_S = 1_000_000.0
LOOK = look_of([ObjectInfo("a", 1, "x")])


@pytest.fixture
def state(tmp_path: Path) -> Iterator[TierState]:
    """In which the object has been read."""
    with closing(TierState(tmp_path, "", 1)) as found:
        first = Unchanged(found, "kind", NOW_S)
        assert first.rereads and ("a", LOOK) not in first
        first.read("a", LOOK)
        first.save()
        yield found


def test_what_was_read_is_read_again_when_it_looks_otherwise(state: TierState) -> None:
    unchanged = Unchanged(state, "kind", NOW_S + 1)
    assert ("a", LOOK) in unchanged and ("b", LOOK) not in unchanged
    for other in (ObjectInfo("a", 2, "x"), ObjectInfo("a", 1, "y"), ObjectInfo("a", 1)):
        assert ("a", look_of([other])) not in unchanged


def test_another_kind_knows_nothing_of_it(state: TierState) -> None:
    assert ("a", LOOK) not in Unchanged(state, "other kind", NOW_S + 1)


@pytest.mark.parametrize("now_s", [NOW_S + REREAD_S, NOW_S - 1])
def test_all_is_read_again_after_an_hour_and_when_the_clock_was_set_back(state: TierState, now_s: float) -> None:
    unchanged = Unchanged(state, "kind", now_s)
    assert unchanged.rereads and ("a", LOOK) not in unchanged


def test_what_was_not_saved_counts_as_not_read(state: TierState) -> None:
    Unchanged(state, "kind", NOW_S + 1).read("b", LOOK)
    assert ("b", LOOK) not in Unchanged(state, "kind", NOW_S + 1)


def test_where_one_of_several_storages_cannot_tell_nobody_relies_on_the_others() -> None:
    told, untold = ObjectInfo("a", 1, "x"), ObjectInfo("a", 1)
    assert look_of([told, untold]) == "" and look_of([]) == ""
    assert len({look_of(pair) for pair in ([told, None], [None, told], [told, told], [told])}) == 4
