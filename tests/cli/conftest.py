from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.repository_commands import Commands, commands_for
from tests.restic.world import make_place


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """On a new repository of version 2."""
    return commands_for(make_place(tmp_path), monkeypatch, capsys)
