"""A tier that reduces is killed at every durable operation, and its storages fail at every operation: the end is that
of an undisturbed run."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from cdr_plugin.errors import CdrError, RemoteError
from cdr_plugin.transports.faults import Fault, Kind
from tests.reducing.worlds import branch_world, change
from tests.support.crashing import kill_after, kill_at
from tests.support.faulty import FaultyPlugins
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers

CLIENTS = ("a", "b")


class World:
    """One state of a hierarchy, to which ``again`` returns."""

    def __init__(self, base: Path) -> None:
        self.base = base / "world"
        self._kept = base / "kept"
        self.tiers = branch_world(self.base)

    def keep(self) -> None:
        shutil.copytree(self.base, self._kept)

    def again(self) -> Tiers:
        shutil.rmtree(self.base)
        shutil.copytree(self._kept, self.base)
        return self.tiers


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Both clients have a committed version, and the segments of their next ones lie in the branch's inbox."""
    with folder_in_memory() as folder:
        made = World(folder)
        for name in CLIENTS:
            made.tiers.backup(name)
        made.tiers.deliver(2)
        for name in CLIENTS:
            change(made.base, name, 1)
            made.tiers.backup(name)
            made.tiers.send(name)
        yield made


def settle(tiers: Tiers) -> None:
    for _ in range(4):
        tiers.deliver()
        if all(state == "committed" for name in CLIENTS for state in tiers.states(name).values()):
            break
    tiers.assert_settled("hq", {"g": list(CLIENTS)})


def sweep_kills(world: World, action: Callable[[], object]) -> int:
    """Kill ``action`` before each of its durable operations; how many there are."""
    world.keep()
    at = 1
    while kill_at(at, action).killed:
        settle(world.tiers)
        world.again()
        at += 1
    return at - 1


def test_kills_while_it_receives_lose_nothing(world: World) -> None:
    assert sweep_kills(world, lambda: world.tiers.receive("branch")) > 40


def test_kills_while_it_sends_lose_nothing(world: World) -> None:
    world.tiers.receive("branch")
    assert sweep_kills(world, lambda: world.tiers.send("branch")) > 10


def test_kills_while_it_takes_answers_lose_nothing(world: World) -> None:
    world.tiers.receive("branch")
    world.tiers.send("branch")
    world.tiers.receive("hq")
    assert sweep_kills(world, lambda: world.tiers.send("branch")) > 5


def test_fifty_kills_at_random_moments_lose_nothing(world: World) -> None:
    """In one history, in which versions go on arriving."""
    tiers, chance, kills = world.tiers, random.Random(7), 0
    for turn in itertools.count():
        action = chance.choice([lambda: tiers.receive("branch"), lambda: tiers.send("branch")])
        kills += kill_after(chance.uniform(0, 0.3), action)
        if kills == 50:
            break
        if turn % 10 == 9:
            name = chance.choice(CLIENTS)
            change(world.base, name, turn)
            tiers.backup(name)
            tiers.send(name)
            tiers.receive("hq")
    settle(tiers)


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER, Kind.TORN])
@pytest.mark.parametrize("step", ["receive", "send", "answers"])
def test_a_storage_that_fails_at_any_operation_delays_only(world: World, kind: Kind, step: str) -> None:
    if step != "receive":
        world.tiers.receive("branch")
    if step == "answers":
        world.tiers.send("branch")
        world.tiers.receive("hq")
    world.keep()
    skip = 0
    while True:
        faults = [Fault(kind, skip=skip, keep_bytes=100)]
        tiers = replace(world.tiers, plugins=FaultyPlugins(faults))
        with suppress(RemoteError):
            tiers.receive("branch") if step == "receive" else tiers.send("branch")
        if faults:
            break
        settle(world.tiers)
        world.again()
        skip += 1
    assert skip > 1


@pytest.mark.parametrize("lost", ["branch/state", "branch/state/g/retained", "branch/state/g/up", "branch/inbox"])
@pytest.mark.parametrize("when", ["before", "taken", "sent", "answered"])
def test_what_is_lost_of_it_is_made_good(world: World, lost: str, when: str) -> None:
    tiers = world.tiers
    steps = [lambda: tiers.receive("branch"), lambda: tiers.send("branch"), lambda: tiers.receive("hq")]
    for step in steps[: ["before", "taken", "sent", "answered"].index(when)]:
        step()
    shutil.rmtree(world.base / lost)
    tiers.init()  # as an operator would
    with suppress(CdrError):
        tiers.send("branch")
    for _ in range(3):
        tiers.deliver()
    settle(tiers)
