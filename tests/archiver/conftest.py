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
def judged(restic: Restic, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A machine that splits as the judge's repository does."""
    return Machine(tmp_path_factory.mktemp("judged"), restic.polynomial)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder
