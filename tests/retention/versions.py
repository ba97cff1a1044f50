"""Versions for tests of retention: only what rules look at."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.model.times import time_formatter
from cdr_plugin.model.versions import Snapshot

TREE = "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"
START_S = int(datetime(2020, 2, 20, tzinfo=UTC).timestamp())
OFFSETS_MIN = (-720, -570, -60, 0, 0, 60, 330, 840)
HOSTS = ("alpha", "beta")
PATHS = (["/a"], ["/b", "/a"], ["/a", "/b"])
TAGS: tuple[list[str], ...] = ([], ["x"], ["y", "x"], ["x", "y", "z"])


def time_text(seconds: int, offset_min: int = 0, nanoseconds: int = 0) -> str:
    return time_formatter(timezone(timedelta(minutes=offset_min)))(seconds, nanoseconds)


def snapshot(seconds: int, offset_min: int = 0, **fields: object) -> Snapshot:
    values: dict[str, object] = {"time": time_text(seconds, offset_min), "tree": TREE, "paths": ["/a"], "hostname": "h"}
    return Snapshot(**{**values, **fields})  # type: ignore[arg-type]


def numbered(snapshots: Sequence[Snapshot]) -> list[StoredVersion]:
    return [StoredVersion(f"{number:064x}", one) for number, one in enumerate(snapshots)]


def random_snapshots(count: int, seed: int) -> list[Snapshot]:
    """Over about three years, dense at times, in several zones, no two of the same instant; the last one
    lies in the future."""
    source = random.Random(seed)
    seconds = START_S
    found = []
    for _ in range(count - 1):
        seconds += source.choice((60, 1800, 3600, 40_000, 86_400, 200_000, 3_000_000))
        found.append(_random(source, seconds))
    return [*found, _random(source, int(datetime.now(UTC).timestamp()) + 20 * 86400)]


def _random(source: random.Random, seconds: int) -> Snapshot:
    return snapshot(
        seconds,
        source.choice(OFFSETS_MIN),
        hostname=source.choice(HOSTS),
        paths=list(source.choice(PATHS)),
        tags=list(source.choice(TAGS)),
    )


@st.composite
def histories(draw: st.DrawFn) -> list[StoredVersion]:
    """Up to 40 versions of one group at different instants, in any order."""
    steps = draw(st.lists(st.sampled_from((1, 1800, 3600, 50_000, 86_400, 700_000, 9_000_000)), max_size=40))
    offsets = draw(st.lists(st.sampled_from(OFFSETS_MIN), min_size=len(steps), max_size=len(steps)))
    tags = draw(st.lists(st.sampled_from(TAGS), min_size=len(steps), max_size=len(steps)))
    seconds, found = START_S, []
    for step, offset_min, own in zip(steps, offsets, tags, strict=True):
        seconds += step
        found.append(snapshot(seconds, offset_min, tags=list(own)))
    return draw(st.permutations(numbered(found)))
