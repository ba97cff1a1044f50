from __future__ import annotations

from pathlib import Path

import pytest

from tests.archiver.judge import Machine, Restic


@pytest.fixture(scope="session")
def restic(tmp_path_factory: pytest.TempPathFactory) -> Restic:
    return Restic(tmp_path_factory.mktemp("restic"))


@pytest.fixture
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder
