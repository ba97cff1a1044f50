"""Places and shells for the commands under test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest

from .command import Shell


@pytest.fixture
def quiet_path() -> Iterator[Path]:
    """A new folder that nobody else's files come and go beside.

    A root tree holds the folders above the source, with their times. Those above ``tmp_path``
    change whenever any process of this machine makes a temporary file; ``/`` itself is no node.
    """
    path = Path(mkdtemp(prefix="cdr-test-", dir="/"))
    yield path
    subprocess.run(["rm", "-rf", path], check=True)  # a real tree in half the time of rmtree


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A user at home in a new folder."""
    home = tmp_path / "home"
    home.mkdir()
    return Shell(home)
