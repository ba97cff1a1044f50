"""The plan of a prune, from numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.care import PruneOptions
from cdr_restic.care.prune_plan import PackUse, PrunePlan, plan_prune, require_packs, unused_limit

MIB = 1024 * 1024
PACK_SIZE = 16 * MIB

_parts = st.tuples(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50), st.integers(1, 300_000))


@st.composite
def packs(draw: st.DrawFn) -> list[PackUse]:
    found = []
    for number in range(draw(st.integers(0, 40))):
        kept, duplicate, unused, each = draw(_parts)
        trees = draw(st.sampled_from([0, 0, 0, 1, 2]))
        found.append(
            PackUse(
                number, kept, duplicate, unused, kept * each, duplicate * each, unused * each,
                has_data=trees < 2, has_trees=trees > 0, must_compress=draw(st.integers(0, 9)) == 0,
            )
        )  # fmt: skip
    return found


def plan(uses: list[PackUse], options: PruneOptions, unindexed: Mapping[str, int] | None = None) -> PrunePlan:
    return plan_prune(uses, {use.number: use.bytes for use in uses}, unindexed or {}, options, PACK_SIZE)


options_of_all_kinds = st.builds(
    PruneOptions,
    max_unused=st.sampled_from(["0", "5%", "50%", "1M", "100k", "unlimited"]),
    max_repack_size=st.sampled_from([None, 0, 1_000_000, 50_000_000]),
    repack_cacheable_only=st.booleans(),
    repack_small=st.booleans(),
    repack_smaller_than=st.sampled_from([None, 0, 1_000_000]),
)


@given(packs(), options_of_all_kinds)
def test_every_pack_has_one_fate_and_the_sums_agree(uses: list[PackUse], options: PruneOptions) -> None:
    made = plan(uses, options, {"aa": 5, "bb": 7})
    report = made.report
    assert len(made.gone) == len(made.removed) + len(made.repacked) + len(made.missing)
    assert report.packs_kept + report.packs_repacked + report.packs_removed == len(uses)
    staying = [use for use in uses if use.number not in made.gone]
    repacked = [use for use in uses if use.number in made.repacked]
    assert report.blobs_left == sum(use.blobs for use in staying) + sum(use.kept for use in repacked)
    assert report.bytes_left_unused == sum(use.waste_bytes for use in staying)
    assert report.bytes_removed == 12 + sum(use.bytes for use in uses) - sum(
        use.bytes for use in staying
    ) - sum(use.kept_bytes for use in repacked)
    assert all(use.kept for use in staying + repacked), "what nobody needs goes"


@given(packs(), options_of_all_kinds)
def test_limits_hold(uses: list[PackUse], options: PruneOptions) -> None:
    made = plan(uses, options)
    limit = unused_limit(options.max_unused, made.report.bytes_used)
    if options.max_repack_size is not None:
        assert made.report.bytes_repacked <= options.max_repack_size
    elif not options.repack_cacheable_only:
        # Without another limit, waste of data packs stays only below the allowed bytes.
        assert made.report.bytes_left_unused <= limit
    if options.repack_cacheable_only:
        assert all(use.has_trees for use in uses if use.number in made.repacked)


@given(packs())
def test_a_pack_is_repacked_for_a_reason(uses: list[PackUse]) -> None:
    made = plan(uses, PruneOptions(max_unused="0"))
    small = [use for use in uses if use.bytes < PACK_SIZE / 25]
    for use in uses:
        if use.number in made.repacked and not use.waste_bytes and not use.must_compress:
            assert (use.has_data and use.has_trees) or (use in small and len(small) >= 10)


def test_the_most_wasteful_packs_are_repacked_first() -> None:
    uses = [PackUse(n, 10, 0, 10, 10 * MIB, 0, n * MIB, has_data=True) for n in range(1, 6)]
    assert plan(uses, PruneOptions(max_unused="8M")).repacked == [5, 4]
    assert plan(uses, PruneOptions(max_unused="0", max_repack_size=30 * MIB)).repacked == [5, 4]


def test_trees_are_repacked_whatever_may_stay_unused() -> None:
    data = PackUse(0, 10, 0, 10, 10 * MIB, 0, 10 * MIB, has_data=True)
    trees = PackUse(1, 10, 0, 1, 10 * MIB, 0, 1, has_trees=True)
    assert plan([data, trees], PruneOptions(max_unused="unlimited")).repacked == [1]


def test_needed_packs_must_be_there_in_full() -> None:
    uses = [PackUse(n, n % 2, 0, 1, 100 * (n % 2), 0, 50) for n in range(4)]
    assert require_packs(uses, {1: 149, 3: 150}) == ([], [1])
    assert require_packs(uses, {2: 7, 3: 150}) == ([1], [])
    assert plan_prune(uses, {1: 150, 3: 150, 2: 1}, {}, PruneOptions(), PACK_SIZE).missing == [0]


@pytest.mark.parametrize(
    ("text", "limit"),
    [("5%", 5), ("50%", 95), ("0%", 0), ("0", 0), ("10", 10), ("2k", 2048), ("1.5K", 1536), ("unlimited", math.inf)],
)
def test_max_unused_is_a_share_of_what_is_left_or_a_size(text: str, limit: float) -> None:
    assert unused_limit(text, 95) == limit
