"""``cdr tag`` changes what ``restic tag`` changes, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdr_plugin.model.versions import decode_snapshot
from cdr_restic.storage import FileKind
from tests.cli.repository_commands import Commands, add_snapshots, version_tag
from tests.retention.versions import START_S, random_snapshots, snapshot


def tags_by_time(found: list[dict[str, Any]]) -> dict[str, set[str]]:
    return {one["time"]: set(one.get("tags", ())) for one in found}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--set", "new,x"],
        ["--add", "new", "--remove", "x", "--remove", "y"],
        ["--add", "x,z", "--host", "alpha", "--tag", "y"],
        ["--remove", "x", "--tag", ""],
    ],
)
def test_tags_become_those_that_restic_gives(commands: Commands, arguments: list[str]) -> None:
    add_snapshots(commands.place, *random_snapshots(12, 2))
    before = {one["id"]: one for one in commands.listed()}
    twin = commands.place.copy(commands.place.folder.parent / "twin")
    twin.restic("tag", *arguments)
    *changes, summary = commands.lines("tag", *arguments)
    after = commands.place.snapshots()
    assert tags_by_time(after) == tags_by_time(twin.snapshots())
    assert summary == {"message_type": "summary", "changed_snapshots": len(changes)}
    new = {one["id"]: one for one in after}
    for change in changes:
        old, changed = before[change["old_snapshot_id"]], new[change["new_snapshot_id"]]
        assert changed["original"] == old["id"]
        for name in ("time", "tree", "paths", "hostname"):
            assert sorted(changed[name]) == sorted(old[name])
    assert len(new) == len(before)


def test_the_first_id_is_remembered_and_a_change_that_changes_nothing_is_none(commands: Commands) -> None:
    (first,) = add_snapshots(commands.place, snapshot(START_S))
    ((change, _), (again, _)) = (commands.lines("tag", "--add", tag) for tag in "ab")
    assert change["old_snapshot_id"] == first and again["old_snapshot_id"] == change["new_snapshot_id"]
    assert commands.listed()[0]["original"] == first
    assert commands.lines("tag", "--add", "a", "--remove", "c")[-1]["changed_snapshots"] == 0
    assert commands.cdr("tag", "--set", "a,b") == "no version was changed\n"


def test_setting_no_tags_removes_all(commands: Commands) -> None:
    """As restic documents it; 0.14 does nothing then."""
    add_snapshots(commands.place, snapshot(START_S, tags=["a", "b"]), snapshot(START_S + 1))
    assert commands.lines("tag", "--set", "")[-1]["changed_snapshots"] == 1
    assert [one.get("tags") for one in commands.listed()] == [None, None]


def test_tags_of_the_tiers_stay(commands: Commands) -> None:
    pin, mine = add_snapshots(
        commands.place,
        snapshot(0, hostname="cdr-pin", tags=["cdr-pin"], paths=["/00"]),
        snapshot(START_S, tags=["x", version_tag(1)]),
    )
    commands.cdr("tag", "--set", "")
    assert commands.listed()[0]["tags"] == [version_tag(1)]
    commands.cdr("tag", "--set", "y")
    assert commands.listed()[0]["tags"] == ["y", version_tag(1)]
    for option in ("--set", "--add", "--remove"):
        said = commands.cdr("tag", option, f"y,{version_tag(1)}", code=1)
        assert "tags that begin with 'cdr-' belong to the tiers" in said
    assert "is a pin of CDR" in commands.cdr("tag", "--add", "y", pin, code=1)
    assert pin in {version.id for version in commands.place.repository().versions()}
    assert mine not in {version.id for version in commands.place.repository().versions()}


def test_fields_that_nobody_here_knows_survive(commands: Commands) -> None:
    files = commands.place.repository().files()
    more = {"label": "<a>", "delete": {"Not": [1.5]}}
    written = {"time": "2024-01-01T00:00:00Z", "tree": "d" * 64, "paths": ["/"], **more}
    files.save(FileKind.SNAPSHOTS, json.dumps(written).encode())
    commands.cdr("tag", "--add", "t")
    (version,) = commands.place.repository().versions()
    assert json.loads(version.snapshot.unknown) == more
    assert decode_snapshot(files.load(FileKind.SNAPSHOTS, version.id)).tags == ["t"]


@pytest.mark.parametrize("arguments", [[], ["--set", "a", "--add", "b"]])
def test_what_makes_no_sense_is_refused(commands: Commands, arguments: list[str]) -> None:
    add_snapshots(commands.place, snapshot(START_S))
    assert "--set" in commands.cdr("tag", *arguments, code=1)
