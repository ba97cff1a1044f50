"""Killed at any durable operation, a tier makes one version of what is in a folder, and no second one."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from cdr_plugin.agentless.collect import Clock, collect
from cdr_plugin.archiver import ArchiveOptions
from cdr_plugin.client.backup import BackupOptions
from cdr_plugin.client.send import send
from cdr_plugin.reporter import Reporter
from tests.support.chain import ZONE
from tests.support.crashing import kill_at
from tests.support.hierarchy import Hierarchy, make_quick

NOW = Clock(lambda: 2e9)


def collect_and_send(world: Hierarchy) -> None:
    client = world.client()
    archive = ArchiveOptions(paths=[world.source.name], cwd=world.source.parent, zone=ZoneInfo(ZONE))
    collect(client, world.source, BackupOptions(archive), Reporter(), clock=NOW)
    send(client, Reporter())
    client.state.close()


def test_a_kill_anywhere_costs_no_version_and_makes_no_second_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_quick(monkeypatch)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(bytes(range(256)) * 200)
    start = Hierarchy.make(tmp_path / "start", source)
    for at in itertools.count(1, 9):
        world = start.copy(tmp_path / f"killed{at}")
        killed = kill_at(at, partial(collect_and_send, world)).killed
        collect_and_send(world)
        collect_and_send(world)  # nothing has changed
        assert world.versions() == {1: world.source_tree()}
        if not killed:
            break
    assert at > 30
    world.receive()
    collect_and_send(world)
    world.assert_settled()
