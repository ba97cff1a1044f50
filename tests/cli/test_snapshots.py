"""``cdr snapshots`` lists what ``restic snapshots`` lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.model.versions import SnapshotSummary
from tests.cli.repository_commands import Commands, add_snapshots, version_tag
from tests.restic.world import make_place
from tests.retention.versions import START_S, random_snapshots, snapshot

SELECTIONS = (
    [],
    ["--host", "alpha"],
    ["--host", "alpha", "--host", "beta", "--path", "/b"],
    ["--path", "/a", "--path", "/b"],
    ["--tag", "x"],
    ["--tag", "z,x", "--tag", ""],
    ["--latest", "2"],
    ["--latest", "1", "--tag", "x"],
)


def without_ids(found: list[dict[str, Any]]) -> set[str]:
    return {one["id"] for one in found}


def test_filters_and_groups_are_those_of_restic(commands: Commands) -> None:
    add_snapshots(commands.place, *random_snapshots(60, 5))
    for selection in SELECTIONS:
        expected = json.loads(commands.place.restic("snapshots", "--json", *selection))
        found = commands.listed(*selection)
        for one in found:
            one["paths"].sort()  # as restic does before it prints
        assert found == expected, selection
    for by in ("host", "paths,tags", "host,paths"):
        grouped = json.loads(commands.place.restic("snapshots", "--json", "--group-by", by))
        expected_groups = {json.dumps(one["group_key"]): without_ids(one["snapshots"]) for one in grouped}
        mine = commands.listed("--group-by", by)
        assert {json.dumps(one["group_key"]): without_ids(one["snapshots"]) for one in mine} == expected_groups


def test_versions_are_named_by_id_or_latest(commands: Commands) -> None:
    first, second, third = add_snapshots(commands.place, *(snapshot(START_S + n, hostname=f"h{n}") for n in range(3)))
    assert [one["id"] for one in commands.listed(third[:8], first)] == [first, third]
    assert [one["id"] for one in commands.listed("latest", "--host", "h1")] == [second]
    assert commands.cdr("snapshots", "0000zzzz", code=1) == "cdr: '0000zzzz': no version; see 'cdr snapshots'\n"
    assert "too short an ID" in commands.cdr("snapshots", first[:3], code=1)
    assert "no version fits" in commands.cdr("snapshots", "latest", "--host", "nobody", code=1)
    assert "give a number from 1 up" in commands.cdr("snapshots", "--latest", "0", code=1)


def test_tables_show_what_people_want_to_see(commands: Commands) -> None:
    summary = SnapshotSummary(backup_start="", backup_end="", total_bytes_processed=3 * 1024 * 1024)
    add_snapshots(
        commands.place,
        snapshot(START_S, 60, paths=["/a", "/b"], tags=["mine", version_tag(1)]),
        snapshot(START_S + 60, summary=summary),
        snapshot(0, hostname="cdr-pin", tags=["cdr-pin"], paths=["/00"]),
    )
    header, _, first, more, second, count = commands.cdr("snapshots").splitlines()
    assert header.split() == ["id", "time", "host", "tags", "paths", "size"]
    assert first.split()[1:] == ["2020-02-20", "00:00:00", "h", "mine", "/a"]
    assert more.split() == ["/b"]
    assert second.endswith("3.000 MiB")
    assert count == "2 versions"
    compact = commands.cdr("snapshots", "--compact").splitlines()
    assert len(compact) == 5 and "/a" not in "".join(compact)
    assert commands.cdr("snapshots", "--pins").splitlines()[-1] == "3 versions"
    assert commands.cdr("snapshots", "-g", "tags").splitlines()[0] == "snapshots for no tags:"


def test_a_wrong_password_of_one_group_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = make_place(tmp_path)
    (mine,) = add_snapshots(place, snapshot(START_S))
    shutil.copytree(place.folder, tmp_path / "repo-bad")
    place.folder.rename(tmp_path / "repo-good")
    (tmp_path / "good.pass").write_text(place.password)
    (tmp_path / "bad.pass").write_text("wrong")
    config = tmp_path / "cdr.toml"
    config.write_text("""\
[tier.hq.receive]
inbox = "inbox"
[tier.hq.store]
repository = "repo-{group}"
password_file = "{group}.pass"
[tier.hq.group.good]
[tier.hq.group.bad]
""")
    for name in ("RESTIC_REPOSITORY", "RESTIC_REPOSITORY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CDR_CONFIG", str(config))
    assert main(["snapshots", "--json"]) == 12
    said = capsys.readouterr()
    assert [one["id"] for one in json.loads(said.out)] == [mine]
    error = json.loads(said.err)
    assert error["item"].endswith("repo-bad") and "opens no key" in error["error"]["message"]
