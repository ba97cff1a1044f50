"""Twelve clients in three groups, three branches, a region and a head office. Links fail and processes die at random;
in the end everything is where it belongs, once, and nowhere else."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from cdr_plugin.assembly import receiving_tiers
from cdr_plugin.client.states import VersionState
from cdr_plugin.errors import NotConvenientError, NotFoundError, RemoteError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.plugins import installed
from cdr_plugin.reporter import Reporter
from cdr_plugin.transports.faults import Fault, Kind
from tests.reducing.worlds import client, reducing, top, write
from tests.restic.world import Place, blob_copies
from tests.support.chain import PASSWORD, ZONE
from tests.support.crashing import kill_at
from tests.support.faulty import FaultyPlugins
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers, make_tiers_quick

SEED = int(os.environ.get("CDR_HIERARCHY_SEED", "5"))
HOURS = int(os.environ.get("CDR_HIERARCHY_HOURS", "4"))
GROUPS = ("legal", "sales", "works")
BRANCHES = ("north", "south", "west")
CLIENTS = [f"c{at}" for at in range(12)]
_SHARED, _OWN = 14, 6


def group_of(name: str) -> str:
    return GROUPS[int(name[1:]) % 3]


def branch_of(name: str) -> str:
    return BRANCHES[int(name[1:]) // 4]


def members(group: str) -> list[str]:
    return [name for name in CLIENTS if group_of(name) == group]


def marker(group: str) -> bytes:
    """What stands in every file of a group and in none of another."""
    return random.Random(f"marker of {group}").randbytes(24)


def put(path: Path, group: str, seed: int, size: int = 9_000) -> None:
    write(path, seed, size)
    path.write_bytes(marker(group) + path.read_bytes())


@dataclass
class World:
    tiers: Tiers
    choose: random.Random
    seen: Counter[str] = field(default_factory=Counter)

    @classmethod
    def make(cls, base: Path, seed: int) -> World:
        for name in CLIENTS:
            group = group_of(name)
            (base / name).mkdir(parents=True)
            for at in range(_SHARED):
                put(base / name / f"shared-{at}", group, GROUPS.index(group) * 1000 + at)
            for at in range(_OWN):
                put(base / name / f"own-{at}", group, int(name[1:]) * 100_000 + at)
        text = "".join(client(name, branch_of(name), group_of(name)) for name in CLIENTS)
        text += "".join(reducing(name, "region") for name in BRANCHES) + reducing("region", "hq") + top()
        return cls(Tiers.make(base, text), random.Random(seed))

    # --- what happens ---

    def hour(self, likely: float = 0.4) -> None:
        for name in CLIENTS:
            if self.choose.random() < likely:
                self._change(name)
                self.tiers.backup(name)
                self.seen["versions"] += 1
        for name, _ in self.tiers.steps():
            if self.choose.random() < 0.7:
                self._step(name)

    def _step(self, name: str) -> None:
        chance = self.choose.random()
        if chance < 0.15:
            faults = [Fault(self.choose.choice([Kind.BEFORE, Kind.AFTER]), skip=int(2 ** (self.choose.random() * 6)))]
            tiers = replace(self.tiers, plugins=FaultyPlugins(faults))
            with suppress(RemoteError, NotConvenientError):
                self._run(tiers, name)()
            self.seen["link cut"] += not faults
        elif chance < 0.3:
            at = int(2 ** (self.choose.random() * 7))
            self.seen["killed"] += kill_at(at, self._patient(name)).killed
        else:
            self._patient(name)()

    def _patient(self, name: str) -> Callable[[], None]:
        def run() -> None:
            with suppress(NotConvenientError):
                self._run(self.tiers, name)()

        return run

    def _run(self, tiers: Tiers, name: str) -> Callable[[], object]:
        return dict(tiers.steps())[name]

    def _change(self, name: str) -> None:
        folder, choose = self.tiers.base / name, self.choose
        own = folder / f"own-{choose.randrange(_OWN)}"
        data = bytearray(own.read_bytes())
        at = choose.randrange(24, len(data) - 40)
        data[at : at + 30] = choose.randbytes(30)
        own.write_bytes(data)
        if choose.random() < 0.5:  # something that the whole group gets, sooner or later
            put(folder / f"news-{choose.randrange(4)}", group_of(name), choose.randrange(4) + 7_000_000)

    def settle(self) -> None:
        for _ in range(10):
            self.tiers.deliver()
            if all(set(self.tiers.states(name).values()) <= {VersionState.COMMITTED} for name in CLIENTS):
                return

    # --- the judgement ---

    def judge(self) -> None:
        self.tiers.assert_settled("hq", {group: members(group) for group in GROUPS})
        for group in GROUPS:
            place = Place(self.tiers.repository("hq", group), self.tiers.base / "judge" / group, PASSWORD)
            assert [blob for blob, count in Counter(blob_copies(place)).items() if count > 1] == []
        for name in CLIENTS:
            self._assert_as_restic_would(name)
        for tier in ("hq", "region", *BRANCHES):
            self._assert_apart(tier)

    def _assert_as_restic_would(self, name: str) -> None:
        """A direct backup makes the tree of the newest version."""
        place = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(self.tiers.repository("hq", group_of(name)))}
        command = ["restic", "--no-cache", "backup", "--json", "--force", "--host", "oracle", name]
        done = subprocess.run(
            command, env={**os.environ, **place, "TZ": ZONE}, cwd=self.tiers.base, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        snapshot = json.loads(done.stdout.splitlines()[-1])["snapshot_id"]
        [oracle] = json.loads(self.tiers.restic("hq", group_of(name), "snapshots", "--json", snapshot))
        versions = self.tiers.captured(name)
        assert oracle["tree"] == versions[max(versions)].hex()
        self.tiers.restic("hq", group_of(name), "forget", snapshot)

    def _assert_apart(self, tier: str) -> None:
        """Decrypt everything that a tier keeps of a group: nothing of another group is in it."""
        for one in receiving_tiers(self.tiers.config, self.tiers.tier(tier), installed(), Reporter()):
            with closing(one), closing(one.open_repository()) as repository, repository.reading() as reader:
                others = [marker(group) for group in GROUPS if group != one.group]
                found = 0
                for id_ in self._possessed(one.state.possessed_by_others([])):
                    with suppress(NotFoundError):
                        data = reader.read(BlobType.DATA, id_)
                        assert not any(other in data for other in others), (tier, one.group)
                        found += marker(one.group) in data
                assert found or tier != "hq", (tier, one.group)

    def _possessed(self, keys: Iterator[bytes]) -> Iterator[BlobId]:
        return (BlobId(key[1:]) for key in keys if key[0] == BlobType.DATA)


@pytest.mark.slow
def test_everything_arrives_once_and_nothing_crosses(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiers_quick(monkeypatch)
    with folder_in_memory() as folder:
        world = World.make(folder / "world", SEED)
        world.hour(likely=1.0)
        for _ in range(HOURS - 1):
            world.hour()
        world.settle()
        world.judge()
        print(dict(world.seen))
        assert {"killed", "link cut", "versions"} <= {what for what, count in world.seen.items() if count}
