"""A tier that reduces below another one: what the upper one loses is made good by the lower one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cdr_plugin.errors import CdrError
from tests.reducing.worlds import change, client, fill, reducing, top
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers

CLIENTS = ("a", "b")


@pytest.fixture
def chain() -> Iterator[Tiers]:
    """Clients below a site below a region below the top. They have a committed version, and one that is captured."""
    with folder_in_memory() as folder:
        base = folder / "world"
        fill(base, CLIENTS)
        text = client("a", "site") + client("b", "site") + reducing("site", "region") + reducing("region", "hq") + top()
        tiers = Tiers.make(base, text)
        for name in CLIENTS:
            tiers.backup(name)
        tiers.deliver(3)
        for name in CLIENTS:
            change(base, name, 1)
            tiers.backup(name)
        yield tiers


@pytest.mark.parametrize("lost", ["region/state", "region/state/g/up"])
def test_what_an_upper_tier_loses_is_made_good_by_the_lower_one(chain: Tiers, lost: str) -> None:
    """Also when the clients make no other version: the machine may be gone."""
    for name, step in chain.steps():
        step()
        if name == "receive region":
            break
    chain.send("site")  # which learns that its segments were taken, and lets go of them
    chain.send("a")
    chain.send("b")
    shutil.rmtree(chain.base / lost)
    chain.init()
    with suppress(CdrError):
        chain.send("region")
    chain.deliver(6)
    chain.assert_settled("hq", {"g": list(CLIENTS)})
