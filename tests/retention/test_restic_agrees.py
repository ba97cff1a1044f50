"""The real restic removes what our policy removes, for the same reasons.

restic 0.14 has no rule for the oldest version of a group and no unlimited counts, keeps everything
when no rule is given, and removes whole groups when the rules keep nothing of them. The model is told
to leave the first out; the others have a test of their own.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import EMPTY_TREE
from cdr_plugin.retention.grouping import parse_group_by
from cdr_plugin.retention.policy import BUCKETS, Policy, apply_policy
from cdr_plugin.retention.spans import Span
from cdr_plugin.retention.tags import has_any_list
from tests.restic.world import Place, make_place
from tests.retention.versions import TREE, random_snapshots

POLICIES = 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        place = make_place(tmp_path_factory.mktemp("retention"))
        with place.repository().writing() as session:
            session.add(BlobType.TREE, BlobId(bytes.fromhex(TREE)), EMPTY_TREE)
            for one in random_snapshots(150, seed=7):
                session.add_version(one)
        yield place


def random_policy(source: random.Random) -> tuple[Policy, list[str], str]:
    """A policy, the options that state it, and what to group by."""
    fields: dict[str, Any] = {}
    for rule in ("last", *BUCKETS):
        if source.random() < 0.3:
            fields[rule] = source.randrange(1, 12)
    for rule in ("within", *(f"within_{bucket}" for bucket in BUCKETS)):
        if source.random() < 0.2:
            fields[rule] = Span(*(source.choice((0, 0, 1, top)) for top in (3, 11, 45, 60)))
    lists = source.sample([("x",), ("x", "y"), ("",), ("z", "x"), ("q",)], source.choice((0, 0, 1, 2)))
    policy = Policy(**fields, tags=tuple(lists))
    options = [f"--keep-{name.replace('_', '-')}={value}" for name, value in fields.items() if str(value)]
    by = ",".join(source.sample(("host", "paths", "tags"), source.randrange(4)))
    return policy, [*options, *(f"--keep-tag={','.join(tags)}" for tags in lists), f"--group-by={by}"], by


def of_restic(place: Place, *options: str) -> dict[str, list[str]]:
    """Snapshot ID -> why it stays; of what goes, none."""
    reasons: dict[str, list[str]] = {}
    for group in json.loads(place.restic("forget", "--dry-run", "--json", *options)):
        keep = [one["id"] for one in group["keep"] or ()]
        matches = [reason["matches"] for reason in group["reasons"] or ()]
        reasons |= zip(keep, matches, strict=True)
        reasons |= {one["id"]: [] for one in group["remove"] or ()}
    return reasons


def of_ours(versions: list[StoredVersion], policy: Policy, by: str) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for _, group in parse_group_by(by).groups(versions):
        outcome = apply_policy(group, policy, (int(time.time()), 0), keep_oldest=False)
        reasons |= {version.id: list(why) for version, why in outcome.keep}
        reasons |= {version.id: [] for version in outcome.remove}
    return reasons


@pytest.mark.parametrize("seed", range(POLICIES))
def test_the_same_versions_stay_for_the_same_reasons(place: Place, seed: int) -> None:
    policy, options, by = random_policy(random.Random(seed))
    versions = list(place.repository().versions())
    assert policy, "choose another seed"
    assert of_ours(versions, policy, by) == of_restic(place, *options)


def test_where_restic_before_0_17_is_less_careful(place: Place) -> None:
    """Both outcomes keep nothing, and refusing them is the command's."""
    versions = list(place.repository().versions())
    everything = {version.id: list[str]() for version in versions}
    assert of_ours(versions, Policy(), "") == everything
    assert "no policy was specified, no snapshots will be removed" in place.restic("forget")
    nothing_fits = Policy(tags=(("q",),))
    assert of_ours(versions, nothing_fits, "") == everything
    assert of_restic(place, "--keep-tag=q", "--group-by=") == everything


@pytest.mark.parametrize("tags", [["x"], ["x,y"], [""], ["z,x", ""], ["q"]])
def test_tag_filters_select_the_same_versions(place: Place, tags: list[str]) -> None:
    listed = json.loads(place.restic("snapshots", "--json", *(f"--tag={one}" for one in tags)))
    lists = [one.split(",") for one in tags]
    ours = {v.id for v in place.repository().versions() if has_any_list(v.snapshot, lists)}
    assert ours == {one["id"] for one in listed}
