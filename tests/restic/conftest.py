from __future__ import annotations

from pathlib import Path

import pytest

from tests.restic.world import Place, make_place


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> int:
    number: int = request.param
    return number


@pytest.fixture
def place(tmp_path: Path, version: int) -> Place:
    return make_place(tmp_path, version)


@pytest.fixture
def place2(tmp_path: Path) -> Place:
    return make_place(tmp_path, 2)
