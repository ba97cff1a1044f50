"""Forgetting in repositories that restic and CDR fill together, and in those that clients still send to."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cdr_plugin.retention.clients import NEWEST
from cdr_plugin.top.version_tags import VersionTag
from tests.restic.world import Place, make_place
from tests.support.changing import change, many_files
from tests.support.direct import backup_into

from .command import Shell
from .hosts import Hierarchy, files_in

VERSIONS = 32
POLICIES = (
    ("--keep-last=2", "--keep-daily=5", "--keep-monthly=4"),
    ("--keep-within=1y2m", "--keep-yearly=2", "--keep-tag=kept,x"),
    ("--keep-hourly=3", "--keep-within-weekly=8m", "--keep-last=1", "--group-by=host,tags"),
    ("--keep-weekly=6", "--group-by=", "--host=alpha", "--host=beta"),
)
ZONES = ("UTC", "Asia/Kolkata", "America/New_York")


def write_history(place: Place, source: Path, rng: random.Random) -> None:
    """Versions by both programs in turn, of several hosts, from several zones, over three years; those of
    one client are numbered."""
    many_files(source, rng, files=15)
    time, number = datetime(2022, 3, 1, 1, tzinfo=UTC), 0
    for _ in range(VERSIONS):
        time += timedelta(minutes=rng.choice((7, 50, 700, 3000, 30_000, 90_000)))
        host = rng.choice(("alpha", "beta"))
        tags = rng.sample(("x", "kept", "y"), rng.randrange(3))
        if rng.random() < 0.5:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("TZ", rng.choice(ZONES))
                options = [word for tag in tags for word in ("--tag", tag)]
                place.restic("backup", "--quiet", str(source), "--host", host, "--time", f"{time:%F %T}", *options)
        else:
            number += 1
            tags.append(str(VersionTag.of(b"client of tests!", number, bytes(32))))
            backup_into(place.repository(), source, time=f"{time:%FT%TZ}", host=host, tags=tags)
        if rng.random() < 0.3:
            change(source, rng)



def is_ours_alone(reasons: list[str]) -> bool:
    """Would restic 0.14 remove it? It has neither our rule nor the one for the oldest version."""
    return all(reason == NEWEST or reason.startswith("oldest ") for reason in reasons)


@pytest.mark.parametrize("seed", [1, 2])
def test_both_programs_leave_the_same_versions(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    place = make_place(tmp_path / "first")
    source = tmp_path / "source"
    source.mkdir()
    write_history(place, source, rng)
    shell = Shell(tmp_path, {"RESTIC_PASSWORD": place.password})
    for number, policy in enumerate(POLICIES):
        ours, theirs = (place.copy(tmp_path / f"{who}{number}") for who in ("cdr", "restic"))
        # Tags by which CDR numbers versions put each into a group of its own; CDR looks past them.
        if "tags" in "".join(policy):
            theirs.restic("tag", *(f"--remove={tag}" for tag in version_tags(theirs)))
        (groups,) = shell.cdr("forget", "-r", ours.folder, *policy, "--json").documents
        theirs.restic("forget", *policy)
        why = [(one["snapshot"], one["matches"]) for group in groups for one in group["reasons"] or ()]
        expected = {one["time"] for one, reasons in why if not is_ours_alone(reasons)}
        untouched = times(place) - {one["time"] for group in groups for one in group["remove"] or ()} - {
            one["time"] for one, _ in why
        }  # fmt: skip
        assert times(theirs) == expected | untouched
        assert times(ours) == {one["time"] for one, _ in why} | untouched
    shell.cdr("forget", "-r", place.folder, "--keep-last=3", "--prune", "--max-unused=0")
    place.check()
    shell.restic("-r", place.folder, "restore", "latest", "--target", tmp_path / "out")


def times(place: Place) -> set[str]:
    return {str(one["time"]) for one in place.snapshots()}


def version_tags(place: Place) -> list[str]:
    found = [one.get("tags", ()) for one in place.snapshots()]
    return [tag for tags in found if isinstance(tags, list) for tag in tags if tag.startswith("cdr-version:")]


def test_a_client_goes_on_after_its_older_versions_are_forgotten(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path).init()
    alice = hierarchy.client("alice")
    for content in ("one", "two", "three"):
        files_in(alice.folder / "files", letter=content)
        alice.cdr("backup", "--tag", "nightly")
    hierarchy.deliver()
    (groups,) = hierarchy.hq.cdr("forget", "--keep-last", "1", "--group-by", "tags", "--json").documents
    assert len(groups) == 1 and len(groups[0]["remove"]) == 2
    hierarchy.hq.cdr("prune", "--max-unused", "0")
    newest = hierarchy.repository().snapshots()[0]["id"]
    assert "newest version of a client" in hierarchy.hq.cdr("forget", newest, code=1).error
    hierarchy.hq.cdr("tag", "--add", "good")
    files_in(alice.folder / "files", letter="four")
    alice.cdr("backup")
    assert hierarchy.deliver()["versions_stored"] == 1
    hierarchy.repository().check()
    (listed,) = hierarchy.hq.cdr("snapshots", "--json").documents
    tagged = [[tag for tag in one["tags"] if not tag.startswith("cdr-")] for one in listed]
    assert tagged == [["nightly", "good"], []]
    assert json.loads(hierarchy.repository().restic("snapshots", "--json").out)
