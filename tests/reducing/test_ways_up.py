"""Two ways up: what is said of a version is what all of them say, whatever becomes of their states."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from cdr_plugin.client.states import VersionState
from cdr_plugin.reducing.tier import ReducingTier
from tests.reducing.worlds import client, fill, reducing, top
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers, opened_tiers


@pytest.fixture
def tiers() -> Iterator[Tiers]:
    """One version lies in the queues of both ways up."""
    with folder_in_memory() as folder:
        base = folder / "world"
        fill(base, ["a"], shared=3, own=1)
        text = client("a", "branch") + reducing("branch", "hq", "dr") + top("hq") + top("dr")
        made = Tiers.make(base, text)
        made.deliver()
        made.backup("a")
        made.send("a")
        made.receive("branch")
        made.send("a")
        yield made


def test_a_way_up_whose_state_is_lost_does_not_count_as_agreed(tiers: Tiers) -> None:
    with opened_tiers(tiers, "branch") as (branch,):
        assert isinstance(branch, ReducingTier)
        (folder,) = (uplink.state_folder for uplink in branch.uplinks if "/dr/" in uplink.to)
    shutil.rmtree(folder)
    tiers.init()
    tiers.send("branch")
    tiers.receive("hq")
    tiers.send("branch")
    tiers.send("a")
    assert tiers.states("a") == {1: VersionState.STORED}
    tiers.deliver(3)
    for name in ("hq", "dr"):
        tiers.assert_settled(name, {"g": ["a"]})
