from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.archiver.judge import Machine, Restic


@pytest.fixture(scope="session")
def restic(tmp_path_factory: pytest.TempPathFactory) -> Restic:
    return Restic(tmp_path_factory.mktemp("restic"))


@pytest.fixture(scope="session")
def quiet() -> Iterator[Path]:
    """A folder above which nothing changes: absolute targets carry the metadata of all folders
    above them, and everybody writes into /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="cdr-test-", dir="/mnt" if os.access("/mnt", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


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
