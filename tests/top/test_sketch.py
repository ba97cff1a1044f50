"""Estimates from sketches against exact sums: overlaps of random sets with random sizes."""

from __future__ import annotations

from math import sqrt
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.top.sketch import Sketch, Sketcher, overlap_bytes, union
from cdr_plugin.top.suggest import Data, Member, clusters, pairs

Sets = dict[bytes, int]
MOST = 1024


def sketch(blobs: Sets, key: bytes = b"k" * 32) -> Sketch:
    sketcher = Sketcher(key)
    for blob, size in blobs.items():
        sketcher.add(blob, size)
    return sketcher.sketch()


def random_sets(random: Random, common: int, only_one: int, only_other: int) -> tuple[Sets, Sets]:
    """Sizes as of a repository: many small blobs, and a few that make up most of the bytes."""
    sizes = [int(min(random.paretovariate(1.2) * 300, 8 << 20)) for _ in range(common + only_one + only_other)]
    blobs = [(random.randbytes(33), size) for size in sizes]
    return dict(blobs[: common + only_one]), dict(blobs[:common] + blobs[common + only_one :])


@pytest.mark.parametrize("seed", range(60))
def test_estimates_lie_within_four_standard_errors_of_the_exact_bytes(seed: int) -> None:
    random = Random(seed)
    common, only_one, only_other = (random.choice((0, 40, 400, 4000)) for _ in range(3))
    one, other = random_sets(random, common, only_one, only_other)
    exact = sum(size for blob, size in one.items() if blob in other)
    whole = sum({**one, **other}.values())
    first, second = sketch(one, key := random.randbytes(32)), sketch(other, key)
    error = 4 * sqrt(max(exact, whole / MOST) * whole / MOST)
    assert abs(overlap_bytes(first, second) - exact) <= error
    assert abs(union((first, second)).bytes() - whole) <= 4 * whole / sqrt(MOST)


@given(st.integers(0), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300))
def test_small_sets_are_counted_exactly(seed: int, common: int, only_one: int, only_other: int) -> None:
    one, other = random_sets(Random(seed), common, only_one, only_other)
    first, second = sketch(one), sketch(other)
    assert overlap_bytes(first, second) == sum(size for blob, size in one.items() if blob in other)
    assert union((first, second)).bytes() == sum({**one, **other}.values())


def test_the_sketch_of_a_union_is_the_union_of_the_sketches() -> None:
    one, other = random_sets(Random(1), 3000, 2000, 1000)
    assert union((sketch(one), sketch(other))).entries == sketch({**one, **other}).entries


def test_order_and_repetition_do_not_matter() -> None:
    one, _ = random_sets(Random(2), 3000, 0, 0)
    sketcher = Sketcher(b"k" * 32)
    for blob in [*sorted(one), *one, *reversed(one)]:
        sketcher.add(blob, one[blob])
    assert sketcher.sketch() == sketch(one)


def test_under_another_key_other_blobs_are_sampled() -> None:
    one, _ = random_sets(Random(3), 5000, 0, 0)
    sampled = [{entry.hash for entry in sketch(one, key).entries} for key in (b"a" * 32, b"b" * 32)]
    assert not sampled[0] & sampled[1]


def member(name: str, blobs: Sets, group: str = "g", cut: Sets | None = None) -> Member:
    """``cut``: pieces of long files, which are like nobody's of another group."""
    own = cut or {}
    data = Data(sketch(blobs | own), sketch(blobs), frozenset((group.encode() if own else b"",)))
    return Member(group, name, sum(blobs.values()) + sum(own.values()), len(blobs) + len(own), data)


def test_clients_with_like_data_end_in_one_cluster_and_strangers_in_none() -> None:
    random = Random(4)
    base, other_base = ({random.randbytes(33): random.randrange(1, 9999) for _ in range(3000)} for _ in range(2))

    def near(common: Sets) -> Sets:
        return common | {random.randbytes(33): random.randrange(1, 9999) for _ in range(600)}

    members = [
        *(member(f"office-{n}", near(base), "east" if n % 2 else "west") for n in range(6)),
        *(member(f"lab-{n}", near(other_base), "east") for n in range(3)),
        member("loner", near({}), "west"),
    ]
    first, second = clusters(members)
    assert {m.name for m in first.members} == {f"office-{n}" for n in range(6)}
    assert {m.name for m in second.members} == {f"lab-{n}" for n in range(3)}
    saved = sum(base.values())  # kept once for both groups, not once in each
    assert first.bytes_saved == pytest.approx(saved, rel=0.25) and second.bytes_saved == 0
    assert pairs(members)[0].share == pytest.approx(5 / 6, abs=0.08)
    assert not [pair for pair in pairs(members) if "loner" in (pair.one.name, pair.other.name)]


def test_hundreds_of_like_clients_are_compared_with_their_nearest_only() -> None:
    blobs = {Random(5).randbytes(33) + bytes((n,)): 100 for n in range(50)}
    members = [member(f"c{n}", blobs) for n in range(100)]
    assert len(pairs(members)) <= 100 * 64
    (cluster,) = clusters(members)
    assert len(cluster.members) == 100 and cluster.bytes_together == 5000


def test_across_groups_that_cut_differently_what_is_not_cut_stands_for_the_rest() -> None:
    random = Random(6)
    files = {random.randbytes(33): random.randrange(1, 9999) for _ in range(3000)}
    members = [
        member(group, files, group, cut={random.randbytes(33): 500_000 for _ in range(300)}) for group in ("a", "b")
    ]
    (pair,) = pairs(members)
    assert pair.share == pytest.approx(1) and pair.bytes == members[0].bytes
    (cluster,) = clusters(members)
    assert cluster.bytes_saved == pytest.approx(members[0].bytes, rel=0.05)
