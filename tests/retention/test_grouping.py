"""Grouping, tags, and the rule for clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import UserError
from cdr_plugin.retention.clients import NEWEST, newest_of_clients, spare
from cdr_plugin.retention.grouping import HOST_AND_PATHS, GroupBy, GroupKey, parse_group_by
from cdr_plugin.retention.policy import Policy, apply_policy
from cdr_plugin.retention.tags import has_any_list, has_tags, split_tags
from cdr_plugin.top.version_tags import VersionTag
from tests.retention.versions import START_S, numbered, random_snapshots, snapshot
from tests.support.patience import PATIENT

ALICE, BOB = b"a" * 16, b"b" * 16
_words = st.lists(st.sampled_from(("host", "paths", "tags")), unique=True)


def version_tag(client: bytes, number: int) -> str:
    return str(VersionTag.of(client, number, bytes(32)))


@given(_words)
@PATIENT
def test_groups_share_what_they_are_grouped_by_and_nothing_is_lost(words: list[str]) -> None:
    versions = numbered(random_snapshots(60, 1))
    by = parse_group_by(",".join(words))
    groups = by.groups(versions)
    assert sorted(v.id for _, group in groups for v in group) == [v.id for v in versions]
    assert len(groups) == len(dict(groups))
    assert all(by.key(version.snapshot) == key for key, group in groups for version in group)
    for key, _ in groups:
        assert bool(key.hostname) == ("host" in words)


def test_lists_in_any_order_are_the_same_group() -> None:
    versions = numbered([snapshot(1, paths=["/b", "/a"]), snapshot(2, paths=["/a", "/b"]), snapshot(3, paths=["/a"])])
    assert [(key.paths, len(group)) for key, group in GroupBy(paths=True).groups(versions)] == [
        (("/a",), 1),
        (("/a", "/b"), 2),
    ]


def test_names_of_criteria_are_those_of_restic() -> None:
    assert parse_group_by("host,paths") == parse_group_by(" paths , hosts") == HOST_AND_PATHS
    assert parse_group_by("") == GroupBy()
    with pytest.raises(UserError, match="'client' is no criterion; choose from host, paths, tags"):
        parse_group_by("client")


def test_a_key_reads_well_and_is_restics_in_json() -> None:
    key = GroupKey("h", ("/a", "/b"), ())
    assert str(key) == "host h, paths [/a, /b]"
    assert key.as_json() == {"hostname": "h", "paths": ["/a", "/b"], "tags": None}
    assert str(GroupKey("", (), ())) == ""


def test_tags_of_the_tiers_are_out_of_sight() -> None:
    first, second = (snapshot(n, tags=["x", version_tag(ALICE, n)]) for n in (1, 2))
    assert len(GroupBy(tags=True).groups(numbered([first, second]))) == 1
    assert has_tags(snapshot(1, tags=[version_tag(ALICE, 1)]), [""])
    assert has_tags(first, [version_tag(ALICE, 1)])


def test_tag_lists_match_as_in_restic() -> None:
    tagged, untagged = snapshot(1, tags=["a", "b"]), snapshot(2)
    assert has_tags(tagged, split_tags("b, a")) and not has_tags(tagged, split_tags("a,c"))
    assert has_tags(untagged, [""]) and not has_tags(tagged, [""]) and not has_tags(tagged, ["a", ""])
    assert not has_tags(untagged, ["a", ""]) and has_tags(untagged, ["", "a"])
    assert has_any_list(tagged, [["c"], ["a"]]) and not has_any_list(tagged, [])


def test_the_newest_version_of_each_client_is_the_highest_number_not_the_latest_time() -> None:
    versions = numbered([
        snapshot(START_S + 9, tags=[version_tag(ALICE, 1)]),
        snapshot(START_S + 1, tags=["t", version_tag(ALICE, 12)]),
        snapshot(START_S + 2, tags=[version_tag(BOB, 2)]),
        snapshot(START_S + 3),
        snapshot(START_S + 4, tags=["cdr-version:nonsense"]),
    ])  # fmt: skip
    assert newest_of_clients(versions) == {versions[1].id, versions[2].id}


def test_a_spared_version_is_kept_among_the_others() -> None:
    versions = numbered([snapshot(START_S + n) for n in range(5)])
    outcome = apply_policy(versions, Policy(last=2), (1 << 40, 0))
    spared = spare(outcome, {versions[1].id, versions[4].id})
    assert [(v.id, reasons) for v, reasons in spared.keep] == [
        (versions[4].id, ("last snapshot", NEWEST)),
        (versions[3].id, ("last snapshot",)),
        (versions[1].id, (NEWEST,)),
    ]
    assert [v.id for v in spared.remove] == [versions[2].id, versions[0].id]
