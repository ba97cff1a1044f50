"""What ``cdr forget`` adds to the policy: rules of its own, refusals, and what it says."""

from __future__ import annotations

import json

import pytest

from cdr_plugin.retention.clients import NEWEST
from tests.cli.repository_commands import Commands, add_snapshots, version_tag
from tests.restic.world import write_version
from tests.retention.versions import START_S, random_snapshots, snapshot

DAY_S = 86400


def ids(commands: Commands) -> set[str]:
    return {version.id for version in commands.place.repository().versions()}


def test_json_is_that_of_restic(commands: Commands) -> None:
    add_snapshots(commands.place, *random_snapshots(40, 9))
    options = ("--keep-last=3", "--keep-within=1y", "--keep-tag=z", "--dry-run", "--json")
    expected = json.loads(commands.place.restic("forget", *options))
    (found,) = commands.lines("forget", *options[:-1])
    by_group = {(group["host"], *group["paths"]): group for group in found}
    assert len(by_group) == len(expected)
    for group in expected:
        mine = by_group[group["host"], *sorted(group["paths"])]
        for part in ("keep", "remove"):
            assert [one["id"] for one in mine[part] or ()] == [one["id"] for one in group[part] or ()]
        assert [why["matches"] for why in mine["reasons"]] == [why["matches"] for why in group["reasons"]]
        assert mine.keys() == group.keys()
    assert len(ids(commands)) == 40


def test_the_newest_version_of_a_client_stays(commands: Commands) -> None:
    old, newest, plain, other = add_snapshots(
        commands.place,
        snapshot(START_S, tags=[version_tag(1)]),
        snapshot(START_S + 60, tags=[version_tag(2)]),
        snapshot(START_S + 120),
        snapshot(START_S + 180),
    )
    (groups,) = commands.lines("forget", "--keep-last", "1")
    assert [(why["snapshot"]["id"], why["matches"]) for why in groups[0]["reasons"]] == [
        (other, ["last snapshot"]),
        (newest, [NEWEST]),
    ]
    assert ids(commands) == {newest, other}
    assert {old, plain}.isdisjoint(ids(commands))


def test_pins_are_no_policys_business(commands: Commands) -> None:
    pin, first, second = add_snapshots(
        commands.place,
        snapshot(0, hostname="cdr-pin", tags=["cdr-pin"], paths=["/00"]),
        snapshot(START_S),
        snapshot(START_S + 60),
    )
    commands.cdr("forget", "--keep-last", "1", "--group-by", "")
    assert ids(commands) == {pin, second}
    assert first not in ids(commands)


def test_what_cdr_needs_goes_by_id_and_force_only(commands: Commands) -> None:
    pin, newest, plain = add_snapshots(
        commands.place,
        snapshot(0, hostname="cdr-pin", tags=["cdr-pin"], paths=["/00"]),
        snapshot(START_S, tags=[version_tag(1)]),
        snapshot(START_S + 60),
    )
    said = commands.cdr("forget", plain, pin, code=1)
    assert said == (
        f"cdr: version {pin[:8]} is a pin: it holds what a client has sent for versions to come; "
        "nothing was removed, '--force' removes it all the same\n"
    )
    assert "is the newest version of a client" in commands.cdr("forget", newest[:8], code=1)
    assert ids(commands) == {pin, newest, plain}
    (groups,) = commands.lines("forget", newest, pin, "--force")
    assert {one["id"] for one in groups[0]["remove"]} == {newest, pin}
    assert ids(commands) == {plain}
    commands.cdr("forget", "latest")
    assert ids(commands) == set()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "no policy is given"),
        (["--keep-daily", "0"], "no policy is given"),
        (["--unsafe-allow-remove-all"], "needs a filter"),
        (["--keep-tag", "nobody has it"], "the policy would keep none of the 2 versions of host h, paths [/a]"),
        (["--keep-last", "-2"], "keep-last -2"),
        (["--keep-within", "5"], "keep-within"),
        (["--keep-last", "1", "--group-by", "client"], "'client' is no criterion"),
        (["0123456789"], "no version"),
        (["latest", "--keep-last", "1"], "give one of the two"),
    ],
)
def test_refusals_remove_nothing(commands: Commands, arguments: list[str], text: str) -> None:
    add_snapshots(commands.place, snapshot(START_S), snapshot(START_S + 60))
    assert text in commands.cdr("forget", *arguments, code=1)
    assert len(ids(commands)) == 2


def test_everything_of_a_filter_goes_when_that_is_asked_for(commands: Commands) -> None:
    _, mine, other = add_snapshots(
        commands.place,
        snapshot(START_S),
        snapshot(START_S + 60, tags=[version_tag(3)]),
        snapshot(START_S, hostname="other"),
    )
    commands.cdr("forget", "--unsafe-allow-remove-all", "--host", "h")
    assert ids(commands) == {mine, other}


def test_unlimited_counts_and_tables(commands: Commands) -> None:
    add_snapshots(commands.place, *(snapshot(START_S + n * DAY_S // 2) for n in range(6)))
    said = commands.cdr("forget", "-d", "unlimited", "--dry-run")
    assert "keep 4 snapshots:" in said and "remove 2 snapshots:" in said and "oldest daily snapshot" in said
    assert said.splitlines()[-1] == f"2 versions would be removed from {commands.place.folder}"
    assert "daily snapshot" not in commands.cdr("forget", "--keep-daily=-1", "--compact", "-n")
    assert len(ids(commands)) == 6


def test_pruning_frees_what_only_the_removed_versions_reached(commands: Commands) -> None:
    with commands.place.repository().writing() as session:
        gone = write_version(session, [b"first" * 1000], host="a")
        stays = write_version(session, [b"second" * 1000], host="b")
    _, planned = commands.lines("forget", gone, "--prune", "--dry-run", "--max-unused", "0")
    assert planned["dry_run"] and planned["blobs_removed"] > 0
    assert ids(commands) == {gone, stays}
    _, done = commands.lines("forget", gone, "--prune", "--max-unused", "0")
    assert {**done, "dry_run": True} == planned
    assert ids(commands) == {stays}
    commands.place.check()
