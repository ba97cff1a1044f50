"""Both kernels under one name: tests that take ``kernel`` run once for each."""

import importlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

from tests.kernel.go_random import Source

NOBODY = 65534


@pytest.fixture(params=["c", "python"])
def kernel(request: pytest.FixtureRequest) -> ModuleType:
    name = {"c": "_kernel", "python": "reference"}[request.param]
    return load(name)


@pytest.fixture
def compiled() -> ModuleType:
    return load("_kernel")


@pytest.fixture(scope="session")
def go_data() -> bytes:
    """The 32 MiB of the chunker library's own test."""
    return Source(23).uint32_bytes(32 << 20)


@pytest.fixture
def users_folder() -> Iterator[Path]:
    """A folder of an ordinary user, as whom the test runs: root is refused nothing."""
    with tempfile.TemporaryDirectory() as name, ordinary_user(Path(name)):
        yield Path(name)


@pytest.fixture
def roots_file() -> Iterator[Path]:
    """A readable file of root's, while the test runs as an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("only root can play two users")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "readable")
        path.write_bytes(b"by all")
        with ordinary_user(Path(name)):
            yield path


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Give the folder to nobody and become nobody, if root."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, NOBODY, -1)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def load(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"cdr_plugin.kernel.{name}")
    except ImportError as error:
        pytest.skip(f"no C kernel here: {error}")
