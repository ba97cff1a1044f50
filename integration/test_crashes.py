"""kill -9 at any operation of any tier: the next run finishes, and the end state is the same."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.changing import change, change_small, many_files, small_tree
from tests.support.crashing import kill_after, kill_at
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory

_BRANCHED = ["backup", "send", "branch receive", "branch send", "receive", "answers down", "read receipts"]
_CHECK_EVERY = 25


@pytest.fixture
def quick_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture
def small(quick_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hierarchy:
    """A hierarchy with a branch and one version committed; the source has changed since."""
    make_quick(monkeypatch)
    small_tree(quick_path / "src")
    made = Hierarchy.make(quick_path / "start", quick_path / "src", branched=True)
    for phase in made.phases:
        phase()
    made.assert_settled()
    change_small(made.source)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("at_phase", range(len(_BRANCHED)), ids=_BRANCHED)
def test_a_kill_at_any_operation_changes_nothing_in_the_end(small: Hierarchy, quick_path: Path, at_phase: int) -> None:
    tree = small.source_tree()
    for phase in small.phases[:at_phase]:
        phase()
    kills = 0
    while True:
        world = small.copy(quick_path / f"kill{kills + 1}")
        outcome = kill_at(kills + 1, world.phases[at_phase])
        for phase in world.phases[at_phase:]:
            phase()
        assert set(world.versions().values()) - set(small.versions().values()) <= {tree}
        assert world.snapshots()[max(world.snapshots())] == tree
        world.assert_settled()
        if kills % _CHECK_EVERY == 0 or not outcome.killed:
            world.check()
            world.assert_restores(quick_path / "restored")
        shutil.rmtree(world.base)
        if not outcome.killed:
            break
        kills += 1
    print(f"{_BRANCHED[at_phase]}: {kills} kills")
    assert kills > 5


@pytest.mark.slow
def test_kills_at_random_moments_cost_no_version_and_no_blob(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch, segment_bytes=256 * 1024, checkpoint_bytes=1024 * 1024)
    choose = random.Random(20260)
    source = quick_path / "src"
    many_files(source, choose)
    world = Hierarchy.make(quick_path / "world", source, branched=True)
    kills, by_timer, done = 0, 0, 0
    while kills < 60 or by_timer < 6:
        tree = world.source_tree()
        for phase in world.phases:
            for _ in range(2):
                if choose.random() < 0.25:
                    hit = kill_after(choose.random() * 0.25, phase)
                    by_timer += hit
                else:
                    hit = kill_at(int(2 ** (choose.random() * 9)), phase).killed
                kills += hit
            phase()
        captured = world.versions()
        assert len(captured) > done
        assert {captured[number] for number in range(done + 1, max(captured) + 1)} == {tree}
        done = max(captured)
        world.assert_restic_agrees()
        change(source, choose)
    print(f"{kills} kills, {by_timer} of them by a timer, {done} versions")
    for phase in world.phases:
        phase()
    world.deliver()
    world.assert_settled()
    world.check()
    world.assert_restic_agrees()
    world.assert_restores(quick_path / "restored")
