"""A tier that reduces: each blob goes up once, what clients captured arrives, and restic agrees."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.client.states import VersionState
from tests.reducing.worlds import branch_world, change, client, fill, moving, reducing, top
from tests.support.tiers import Tiers


def test_what_two_clients_have_goes_up_once_and_every_version_is_committed(tmp_path: Path) -> None:
    tiers = branch_world(tmp_path)
    sent = {name: tiers.backup(name).spool.spooled_bytes for name in tiers.clients}
    for name in tiers.clients:
        tiers.send(name)
    taken = tiers.receive("branch")
    assert taken.versions_forwarded == 2
    assert sum(sent.values()) - taken.bytes_out > 14 * 30_000 * 0.95
    tiers.deliver()
    tiers.assert_settled("hq", {"g": ["a", "b"]})


def test_versions_and_deltas_flow_through_and_a_delta_stays_a_delta(tmp_path: Path) -> None:
    tiers = branch_world(tmp_path)
    for name in tiers.clients:
        tiers.backup(name)
    tiers.deliver(2)
    for at in (1, 2, 3):
        for name in tiers.clients:
            change(tmp_path, name, at)
            spooled = tiers.backup(name).spool.spooled_bytes
            tiers.send(name)
            up = tiers.receive("branch").bytes_out
            assert up < spooled + 4000, "a changed file of 30 kB must not travel whole"
        tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a", "b"]})
    assert len(tiers.stored("hq", "g")["a"]) == 4


def test_a_branch_does_not_send_what_another_branch_has_sent(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    text = client("a", "north") + client("b", "south") + reducing("north", "hq") + reducing("south", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    tiers.deliver()  # everybody is known to everybody
    tiers.backup("a")
    tiers.deliver(2)
    tiers.backup("b")
    tiers.send("b")
    tiers.receive("south")
    assert tiers.send("south").bytes_sent < 7 * 30_000
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a", "b"]})


def test_five_levels_with_a_mover_between_reducing_tiers(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b", "c"])
    text = (
        client("a", "local")
        + client("b", "local")
        + client("c", "region")
        + reducing("local", "post")
        + moving("post", "region")
        + reducing("region", "hq")
        + top()
    )
    tiers = Tiers.make(tmp_path, text)
    for at in range(3):
        for name in tiers.clients:
            if at:
                change(tmp_path, name, at)
            tiers.backup(name)
        tiers.deliver(4)
    tiers.assert_settled("hq", {"g": ["a", "b", "c"]})


def test_two_tops_each_get_everything(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    text = client("a", "branch") + client("b", "branch") + reducing("branch", "hq", "dr") + top("hq") + top("dr")
    tiers = Tiers.make(tmp_path, text)
    for name in tiers.clients:
        tiers.backup(name)
    tiers.deliver(3)
    for name in ("hq", "dr"):
        tiers.assert_settled(name, {"g": ["a", "b"]})


def test_a_version_is_committed_below_only_when_all_tops_have_it(tmp_path: Path) -> None:
    fill(tmp_path, ["a"])
    tiers = Tiers.make(tmp_path, client("a", "branch") + reducing("branch", "hq", "dr") + top("hq") + top("dr"))
    tiers.backup("a")
    for _ in range(2):
        for step in (lambda: tiers.send("a"), lambda: tiers.receive("branch"), lambda: tiers.send("branch")):
            step()
        tiers.receive("hq")
        tiers.send("branch")
        tiers.send("a")
    assert set(tiers.states("a").values()) == {VersionState.STORED}
    tiers.deliver()
    assert set(tiers.states("a").values()) == {VersionState.COMMITTED}


def test_groups_do_not_meet_at_a_tier_that_serves_both(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    text = client("a", "branch", "legal") + client("b", "branch", "sales") + reducing("branch", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    for name in tiers.clients:
        tiers.backup(name)
    tiers.deliver(2)
    tiers.assert_settled("hq", {"legal": ["a"], "sales": ["b"]})
    assert set(tiers.stored("hq", "legal")) == {"a"}


@pytest.mark.parametrize("retain", ["", ', retain = { max_size = "100KiB" }', ', retain = { for = "1s" }'])
def test_a_tier_that_keeps_little_loses_nothing(tmp_path: Path, retain: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_plugin.reducing.tier.RETAIN_EVERY_S", 0.0)
    tiers = branch_world(tmp_path, retain=retain)
    for at in range(4):
        for name in tiers.clients:
            if at:
                change(tmp_path, name, at)
            tiers.backup(name)
        tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a", "b"]})


def test_a_delta_may_copy_from_what_was_attested_just_before(tmp_path: Path) -> None:
    """Two versions that were made offline travel together; what the first one holds, another client has sent."""
    tiers = branch_world(tmp_path)
    tiers.backup("a")
    tiers.deliver(2)
    tiers.backup("b")
    data = bytearray((tmp_path / "b" / "shared-0").read_bytes())
    data[100:120] = b"a change of some byte"[:20]
    (tmp_path / "b" / "shared-0").write_bytes(data)
    tiers.backup("b")
    for step, name in (("send", "b"), ("receive", "branch"), ("send", "branch")):
        getattr(tiers, step)(name)
    assert tiers.receive("hq").blobs_missing == 0
    tiers.deliver()
    tiers.assert_settled("hq", {"g": ["a", "b"]})
