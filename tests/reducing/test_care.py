"""Care at the top tier, and target reduction there, where clients come through a tier that reduces."""

from __future__ import annotations

from pathlib import Path
from random import Random

from cdr_plugin.assembly import client_tier
from cdr_plugin.client.verified import verified_times
from cdr_plugin.plugins import installed
from cdr_plugin.reporter import Reporter
from cdr_plugin.retention.policy import Policy
from cdr_plugin.top.checking import check_group
from cdr_plugin.top.forgetting import forget_group
from cdr_plugin.top.landed import landed_bytes
from cdr_plugin.top.landing import land
from cdr_plugin.top.tier import TopTier
from tests.reducing.worlds import branch_world, change, client, fill, moving, reducing, top
from tests.support.tiers import Tiers, opened_tiers


def head_office(tiers: Tiers) -> TopTier:
    with opened_tiers(tiers, "hq") as found:
        (one,) = found
        assert isinstance(one, TopTier)
        return one


def verified(tiers: Tiers, name: str) -> list[int]:
    found = client_tier(tiers.tier(name), installed())
    try:
        return sorted(number for number, _ in verified_times(found.state))
    finally:
        found.state.close()


def test_what_is_verified_comes_down_through_every_kind_of_tier(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    text = client("a", "low") + client("b", "hq") + reducing("low", "mid") + moving("mid", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    for name in ("a", "b"):
        tiers.backup(name)
    tiers.deliver(3)
    checked = check_group(head_office(tiers), "100%", Reporter(), source=Random(1))
    assert checked.is_clean and checked.verified == 2
    tiers.deliver(2)
    assert verified(tiers, "a") == verified(tiers, "b") == [1]


def test_what_a_tier_sends_lands_and_is_reduced_later(tmp_path: Path) -> None:
    tiers = branch_world(tmp_path)
    tiers.deliver()
    for at in (1, 2):
        for name in tiers.clients:
            change(tmp_path, name, at)
            tiers.backup(name)
            tiers.send(name)
        tiers.receive("branch")
        tiers.send("branch")
        assert land(head_office(tiers), Reporter()).segments > 0
    tiers.send("branch")
    tiers.deliver(2)
    assert landed_bytes(head_office(tiers)) == 0
    tiers.assert_settled("hq", {"g": ["a", "b"]})


def test_after_a_forget_with_prune_versions_go_on_and_little_travels(tmp_path: Path) -> None:
    tiers = branch_world(tmp_path)
    for at in (1, 2, 3, 4):
        for name in tiers.clients:
            change(tmp_path, name, at)
            tiers.backup(name)
        tiers.deliver(2)
    done = forget_group(head_office(tiers), Policy(last=1), prune=True, pin_for_s=86400, reporter=Reporter())
    assert done.note.removed == 4 and done.pruned is not None
    tiers.deliver(2)
    change(tmp_path, "a", 5)
    tiers.backup("a")
    assert tiers.send("a").bytes_sent < 60_000
    tiers.deliver(3)
    assert {len(trees) for trees in tiers.stored("hq", "g").values()} == {2, 3}
    tiers.check("hq", "g")
