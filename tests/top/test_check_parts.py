"""The parts that scheduled checks read: after enough of them, everything was read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.config.values import fraction
from cdr_plugin.top.check_parts import MAX_PARTS, Part, first_part, part_to_read

SUBSETS = st.one_of(
    st.integers(1, MAX_PARTS).flatmap(lambda t: st.integers(1, t).map(lambda n: f"{n}/{t}")),
    st.decimals("0.1", "100", places=1).map(lambda share: f"{share}%"),
)


def parts_of_a_round(configured: str) -> list[Part]:
    last: Part | None = None
    found = []
    first = first_part(configured)
    assert first is not None
    for _ in range(first.count):
        last = part_to_read(configured, last)
        assert last is not None
        found.append(last)
    return found


@given(SUBSETS)
def test_after_a_round_every_pack_was_read_once(configured: str) -> None:
    parts = parts_of_a_round(fraction(configured))
    for first_byte in range(256):
        assert sum(first_byte % part.count == part.number - 1 for part in parts) == 1


@given(st.decimals("0.4", "100", places=1))
def test_no_part_of_a_percentage_is_larger_than_it_by_more_than_a_byte_of_ids(share: object) -> None:
    part = first_part(f"{share}%")
    assert part is not None and 1 / part.count <= float(str(share)) / 100 + 1e-9


def test_a_part_of_n_begins_at_n_and_a_size_does_not_rotate() -> None:
    assert first_part("3/10") == Part(3, 10)
    assert [first_part(text) for text in ("500M", "")] == [None, None]
    assert first_part("100%") == Part(1, 1)
    assert first_part("0.1%") == Part(1, MAX_PARTS)


def test_behind_the_last_part_comes_the_first() -> None:
    assert part_to_read("10%", Part(4, 10)) == Part(5, 10)
    assert part_to_read("10%", Part(10, 10)) == Part(1, 10)


def test_another_configuration_begins_anew() -> None:
    assert part_to_read("20%", Part(4, 10)) == Part(1, 5)
