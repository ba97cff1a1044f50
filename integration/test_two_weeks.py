"""Two weeks of a client that is seldom online, from one seed: 200 versions, offline times, cut links, kills,
a small spool, lost objects. Every version that either side calls stored restores exactly.

``CDR_VERSIONS=N`` and ``CDR_SEED=N`` choose another length and another history.
"""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdr_plugin.client.room import SpoolFullError
from cdr_plugin.contracts import Settings, StoredVersion, Transport
from cdr_plugin.errors import NotConvenientError, RemoteError
from cdr_plugin.transports.faults import Fault, Kind
from tests.support.compare import Facts, tree_facts
from tests.support.crashing import kill_at
from tests.support.faulty import FaultyPlugins
from tests.support.hierarchy import Hierarchy, make_quick
from tests.support.memory import folder_in_memory

VERSIONS = int(os.environ.get("CDR_VERSIONS", "200"))
SEED = int(os.environ.get("CDR_SEED", "20261123"))

_SPOOL_BYTES = 100_000
"""The first version has 900 KB and streams; later ones have about 20 KB, so that a long time offline fills it."""
_JUDGED = 8
"""Versions that restic restores at the end; of all others the tree IDs are compared."""


@pytest.fixture
def quick_path() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


class Network(FaultyPlugins):
    """Storage that can be out of reach, or fail as ``faults`` plans."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        super().__init__(self.faults)
        self.up = True

    def transport(self, url: str, settings: Settings | None = None, *, create: bool = False) -> Transport:
        if not self.up:
            raise RemoteError(f"{url}: no route to host")
        return super().transport(url, settings, create=create)


@dataclass
class Weeks:
    """What happens to ``world``; ``facts`` holds what each captured root tree must restore."""

    world: Hierarchy
    choose: random.Random
    network: Network
    facts: dict[bytes, dict[bytes, Facts]] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)
    offline: int = 0

    def hour(self) -> None:
        """The source changes, a version is made, and perhaps some of it travels."""
        self._change()
        self.network.up = not self.offline
        self.facts.setdefault(self.world.source_tree(), tree_facts(self.world.source))
        self._maybe_killed(self.world.backup, 0.15)
        if self.offline:
            self.offline -= 1
            return
        if self.choose.random() < 0.2:
            self.offline = self.choose.randrange(1, 12)
            self.seen["went offline"] += 1
        self._travel()
        self._lose()

    def _travel(self) -> None:
        for phase, often in ((self.world.send, 0.9), (self.world.receive, 0.6), (self.world.send, 0.6)):
            if self.choose.random() < often:
                if self.choose.random() < 0.3:
                    self._cut_link(phase)
                else:
                    self._maybe_killed(phase, 0.1)

    def _cut_link(self, phase: Callable[[], object]) -> None:
        kind = self.choose.choice([Kind.BEFORE, Kind.AFTER])
        self.network.faults.append(Fault(kind, skip=int(2 ** (self.choose.random() * 6))))
        try:
            self._patient(phase)
        except RemoteError:
            self.seen["link cut"] += 1
        finally:
            self.network.faults.clear()

    def _maybe_killed(self, phase: Callable[[], object], likely: float) -> None:
        """Run a phase; sometimes a run before it is killed, and sometimes nobody tries again."""
        if self.choose.random() < likely:
            self.seen["killed"] += kill_at(int(2 ** (self.choose.random() * 8)), lambda: self._patient(phase)).killed
            if self.choose.random() < 0.3:
                return
        self._patient(phase)

    def _patient(self, phase: Callable[[], object]) -> None:
        try:
            phase()
        except (NotConvenientError, SpoolFullError):
            self.seen["spool full"] += 1

    def _lose(self) -> None:
        """Somebody clears a folder that is not theirs."""
        chain = self.world.chain()
        for what, folder, likely in (
            ("inbox", chain.inbox / "clients", 0.15),
            ("answer", chain.inbox / "answers", 0.05),
            ("spool", self.world.base / "alice-state" / "spool", 0.04),
            ("baseline", self.world.base / "alice-state" / "baseline", 0.03),
        ):
            if self.choose.random() < likely:
                files = sorted(path for path in folder.rglob("*") if path.is_file())
                for path in self.choose.sample(files, min(len(files), 2)):
                    path.unlink()
                    self.seen[f"{what} lost"] += 1

    def _change(self) -> None:
        source, choose = self.world.source, self.choose
        database = source / "database"
        data = bytearray(database.read_bytes())
        for _ in range(choose.randrange(4)):
            at = choose.randrange(len(data) // 64) * 64
            data[at : at + 64] = choose.randbytes(64)
        database.write_bytes(data)
        with (source / "log").open("ab") as log:
            log.write(b"%x\n" % choose.getrandbits(800))
        names = sorted(path for path in (source / "papers").iterdir())
        paper = choose.choice(names)
        match choose.randrange(5):
            case 0:
                paper.write_bytes(choose.randbytes(choose.randrange(1, 300)) + paper.read_bytes())
            case 1:
                paper.rename(paper.with_name(f"{paper.name[:6]}-{choose.getrandbits(24):x}"))
            case 2:
                (source / "papers" / f"new-{choose.getrandbits(32):x}").write_bytes(
                    choose.randbytes(choose.randrange(60_000))
                )
            case 3 if len(names) > 8:
                paper.unlink()
            case _:
                paper.write_bytes(paper.read_bytes()[:-100] + b"the end")

    # --- the end ---

    def settle(self) -> None:
        """All links are up and nobody dies: everything that waits arrives."""
        self.network.up = True
        for _ in range(6):
            self._patient(self.world.backup)
            self.world.deliver()
            self.facts.setdefault(self.world.source_tree(), tree_facts(self.world.source))

    def judge(self, folder: Path) -> None:
        stored = self.world.snapshots()
        print(f"{max(self.world.versions())} versions made, {len(stored)} stored; {dict(self.seen)}")
        assert self.world.committed().items() <= stored.items()
        assert set(stored.values()) <= set(self.facts)
        assert stored[max(stored)] == self.world.source_tree()
        self.world.assert_nothing_on_the_way()
        self.world.assert_no_blob_twice()
        self.world.check()
        for number in sorted(self.choose.sample(sorted(stored), min(_JUDGED, len(stored)))):
            self._restores(stored[number], folder / str(number))

    def _restores(self, tree: bytes, folder: Path) -> None:
        snapshot = next(v.id for v in self._listed() if v.snapshot.tree == tree.hex())
        self.world.restic("restore", snapshot, "--target", str(folder))
        assert tree_facts(folder / self.world.source.name) == self.facts[tree]
        shutil.rmtree(folder)

    def _listed(self) -> Sequence[StoredVersion]:
        repository = self.world.chain().top.open_repository()
        try:
            return repository.versions()
        finally:
            repository.close()


def _first_source(source: Path, choose: random.Random) -> None:
    (source / "papers").mkdir(parents=True)
    for number in range(30):
        (source / "papers" / f"paper{number}").write_bytes(choose.randbytes(choose.randrange(1, 9000)))
    (source / "database").write_bytes(choose.randbytes(700_000))
    (source / "log").write_bytes(b"begun\n")


@pytest.mark.slow
def test_every_version_that_is_called_stored_restores_exactly(
    quick_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch, segment_bytes=16 * 1024, checkpoint_bytes=256 * 1024)
    choose = random.Random(SEED)
    source = quick_path / "src"
    _first_source(source, choose)
    world = Hierarchy.make(quick_path / "world", source, methods=("delta", "zstd"), spool_limit=_SPOOL_BYTES)
    network = Network()
    monkeypatch.setattr("tests.support.chain.installed", lambda: network)
    weeks = Weeks(world, choose, network)
    for _ in range(VERSIONS):
        weeks.hour()
    weeks.settle()
    weeks.judge(quick_path / "restored")
    assert {"killed", "link cut", "spool full", "went offline", "inbox lost", "spool lost"} <= weeks.seen.keys()
