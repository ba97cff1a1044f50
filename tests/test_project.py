"""Promises that the project makes about itself: versions agree, plugins load, files stay readable."""

from __future__ import annotations

import importlib
import re
import subprocess
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import cdr_plugin
from cdr_plugin.contracts import ENTRY_POINT_GROUP, Hooks

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRIES: dict[str, str] = PYPROJECT["project"]["entry-points"][ENTRY_POINT_GROUP]

LONGEST_MODULE = 600
"""Lines: a longer one holds two ideas."""

# Names of places and tools of the developers' machines; in pieces, so that this file does not hold them.
FOREIGN = ["/work" + "/main", "/work" + "/shared", "shared" + "/design", "." + "library"]


def tracked() -> list[Path]:
    """The files of the project that exist, as git lists them."""
    # safe.directory: the checkout may belong to somebody else, for example in a container.
    command = ["git", "-C", str(ROOT), "-c", "safe.directory=*", "ls-files", "-z"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    return [path for path in (ROOT / name for name in listed if name) if path.is_file()]


def hooks_of(module: ModuleType) -> list[str]:
    return [name for name in vars(Hooks) if name.startswith("cdr_") and callable(getattr(module, name, None))]


def test_the_distribution_has_the_version_that_the_package_says() -> None:
    assert PYPROJECT["project"]["version"] == cdr_plugin.__version__


@pytest.mark.parametrize("name", ENTRIES)
def test_every_built_in_plugin_can_be_imported_and_implements_a_hook(name: str) -> None:
    assert hooks_of(importlib.import_module(ENTRIES[name]))


def test_every_package_of_a_built_in_plugin_is_type_checked_and_held_by_the_import_rules() -> None:
    packages = {target.split(".")[0] for target in ENTRIES.values()}
    assert packages <= set(PYPROJECT["tool"]["mypy"]["packages"])
    assert packages <= set(PYPROJECT["tool"]["importlinter"]["root_packages"])


def test_the_changelog_has_an_unreleased_section_with_entries() -> None:
    sections = re.split(r"^## ", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert sections[1].startswith("[Unreleased]")
    assert re.search(r"^### \w+\n\n- ", sections[1], re.MULTILINE)


def test_no_file_names_a_place_outside_the_project() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        for word in FOREIGN
        if word.encode() in path.read_bytes()
    ]
    assert found == []


def test_no_module_is_longer_than_one_idea_needs() -> None:
    rooms = ("cdr_plugin", "backends", "formats")
    lengths = {
        path: len(path.read_text().splitlines())
        for path in tracked()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in rooms
    }
    assert lengths
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > LONGEST_MODULE} == {}
