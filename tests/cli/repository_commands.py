"""Commands run in this process on one repository with a quick key."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import EMPTY_TREE
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.top.version_tags import VersionTag
from tests.restic.world import Place
from tests.retention.versions import TREE


def version_tag(number: int, client: bytes = b"c" * 16) -> str:
    return str(VersionTag.of(client, number, bytes(32)))


def add_snapshots(place: Place, *snapshots: Snapshot) -> list[str]:
    """Of the empty tree; their IDs."""
    with place.repository().writing() as session:
        session.add(BlobType.TREE, BlobId(bytes.fromhex(TREE)), EMPTY_TREE)
        return [session.add_version(one) for one in snapshots]


class Commands:
    """Runs ``cdr`` on ``place``."""

    def __init__(self, place: Place, capsys: pytest.CaptureFixture[str]) -> None:
        self.place = place
        self._capsys = capsys

    def cdr(self, command: str, *arguments: str, code: int = 0) -> str:
        """Standard output; with another ``code`` than 0, standard error."""
        found = main([command, "-r", str(self.place.folder), *arguments])
        said = self._capsys.readouterr()
        assert found == code, said.out + said.err
        return said.err if code else said.out

    def lines(self, command: str, *arguments: str) -> list[Any]:
        return [json.loads(line) for line in self.cdr(command, *arguments, "--json").splitlines()]

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        (found,) = self.lines("snapshots", *arguments)
        return list(found)


def commands_for(place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    monkeypatch.setenv("RESTIC_PASSWORD", place.password)
    monkeypatch.setenv("TZ", "UTC")
    return Commands(place, capsys)


