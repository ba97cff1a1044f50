"""A hierarchy out of a configuration text, in one folder, each step as its own process would do it; restic judges."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdr_plugin.archiver import ArchiveOptions
from cdr_plugin.assembly import client_tier, intermediate_tier, is_reducing, receiving_tiers, reducing_tiers
from cdr_plugin.cli.main import main
from cdr_plugin.client.backup import BackupOptions, BackupResult, backup
from cdr_plugin.client.send import SendResult, send
from cdr_plugin.client.states import VersionState
from cdr_plugin.config import Config, TierConfig, load_config
from cdr_plugin.plugins import Plugins, installed
from cdr_plugin.reducing.sending import send as send_up
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.receive import receive
from cdr_plugin.top.result import ReceiveResult
from cdr_restic.locks import LockTimes
from tests.restic.world import QUICK
from tests.support.chain import PASSWORD, ZONE


def make_tiers_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that open at once, and locks that do not wait; for this process and its forks."""
    monkeypatch.setattr("cdr_restic.creating.measured_scrypt", lambda: QUICK)
    monkeypatch.setattr("cdr_restic.repository.LockTimes", lambda: LockTimes(settle_s=0))


@dataclass
class Tiers:
    """``base`` holds the configuration and all tiers. The sources are folders of ``base`` named by their clients."""

    base: Path
    plugins: Plugins = field(default_factory=installed)

    @classmethod
    def make(cls, base: Path, text: str) -> Tiers:
        base.mkdir(parents=True, exist_ok=True)
        (base / "cdr.toml").write_text(text)
        (base / "password").write_text(f"{PASSWORD}\n")
        made = cls(base)
        made.init()
        return made

    @property
    def config(self) -> Config:
        return load_config(self.base / "cdr.toml")

    def tier(self, name: str) -> TierConfig:
        return self.config.tier(name)

    @property
    def clients(self) -> list[str]:
        return [tier.name for tier in self.config.tiers.values() if tier.source is not None]

    def init(self) -> None:
        assert main(["init", "-q", "-c", str(self.base / "cdr.toml")]) == 0

    # --- what a tier does ---

    def backup(self, name: str) -> BackupResult:
        config = self.tier(name)
        client = client_tier(config, self.plugins)
        assert config.source is not None
        source = Path(config.source.paths[0])
        # Relative, so that the tree does not hold the folders above, which others change.
        archive = ArchiveOptions(paths=[source.name], cwd=source.parent, zone=ZoneInfo(ZONE))
        with closing(client.state):
            return backup(client, BackupOptions(archive=archive), Reporter())

    def send(self, name: str, reporter: Reporter | None = None) -> SendResult:
        config, reporter = self.tier(name), reporter or Reporter()
        if config.source is not None:
            client = client_tier(config, self.plugins)
            with closing(client.state):
                return send(client, reporter)
        if not is_reducing(config, self.plugins):
            moved = intermediate_tier(config, self.plugins).send(reporter)
            return SendResult(moved.segments, moved.bytes)
        total = SendResult()
        for tier in reducing_tiers(self.config, config, self.plugins, reporter):
            with closing(tier):
                total.add(send_up(tier, reporter))
        return total

    def receive(self, name: str, reporter: Reporter | None = None) -> ReceiveResult:
        config, reporter, total = self.tier(name), reporter or Reporter(), ReceiveResult()
        if config.store is None and not is_reducing(config, self.plugins):
            total.bytes_in = intermediate_tier(config, self.plugins).receive(reporter).bytes
            return total
        for tier in receiving_tiers(self.config, config, self.plugins, reporter):
            with closing(tier):
                total.add(receive(tier, reporter))
        return total

    def steps(self) -> list[tuple[str, Callable[[], object]]]:
        """One round upward and the answers down again, by name."""
        order = self._upward()
        up = [(kind, name) for name in order for kind in self._kinds(name)]
        down = [("send", name) for name in reversed(order) if "send" in self._kinds(name)]
        return [(f"{kind} {name}", self._step(kind, name)) for kind, name in up + down]

    def _step(self, kind: str, name: str) -> Callable[[], object]:
        return (lambda: self.send(name)) if kind == "send" else (lambda: self.receive(name))

    def _kinds(self, name: str) -> list[str]:
        tier = self.tier(name)
        return [*(["receive"] if tier.receive else []), *(["send"] if tier.forward else [])]

    def _upward(self) -> list[str]:
        config = self.config

        def height(tier: TierConfig) -> int:
            return 1 + max(map(height, config.tiers_below(tier)), default=0)

        return [tier.name for tier in sorted(config.tiers.values(), key=height)]

    def deliver(self, rounds: int = 1) -> None:
        for _ in range(rounds):
            for _, step in self.steps():
                step()

    # --- judging ---

    def captured(self, name: str) -> dict[int, bytes]:
        """The root tree of every version of a client."""
        return {number: tree for number, (tree, _) in self._versions(name).items()}

    def states(self, name: str) -> dict[int, VersionState]:
        return {number: state for number, (_, state) in self._versions(name).items()}

    def _versions(self, name: str) -> dict[int, tuple[bytes, VersionState]]:
        client = client_tier(self.tier(name), installed())
        with closing(client.state):
            return {row.number: (row.tree, row.state) for row in client.state.versions()}

    def repository(self, top: str, group: str) -> Path:
        store = self.tier(top).store
        assert store is not None
        return Path(store.repository_of(group))

    def restic(self, top: str, group: str, *arguments: str) -> str:
        """Standard output of the stock program; it must succeed."""
        place = {"RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(self.repository(top, group))}
        done = subprocess.run(
            ["restic", "--no-cache", *arguments],
            env={**os.environ, **place},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stored(self, top: str, group: str) -> dict[str, list[bytes]]:
        """The trees of the snapshots of each host, oldest first, pins left out."""
        found: dict[str, list[bytes]] = {}
        for snapshot in json.loads(self.restic(top, group, "snapshots", "--json")) or []:
            if snapshot["hostname"] != "cdr-pin":
                found.setdefault(snapshot["hostname"], []).append(bytes.fromhex(snapshot["tree"]))
        return found

    def check(self, top: str, group: str) -> None:
        assert "no errors were found" in self.restic(top, group, "check", "--read-data")

    def assert_settled(self, top: str, groups: Mapping[str, list[str]]) -> None:
        """Every version that a client captured is committed, at the top as well as to the client's knowledge."""
        for group, clients in groups.items():
            stored = self.stored(top, group)
            for name in clients:
                assert set(self.states(name).values()) <= {VersionState.COMMITTED}, (name, self.states(name))
                assert sorted(stored.get(name, [])) == sorted(self.captured(name).values()), name
            self.check(top, group)


@contextmanager
def opened_tiers(tiers: Tiers, name: str) -> Iterator[list[object]]:
    """What a receiving tier is for each group; closed in the end."""
    with ExitStack() as stack:
        found = list(receiving_tiers(tiers.config, tiers.tier(name), installed(), Reporter()))
        for one in found:
            stack.callback(one.close)
        yield list(found)
