"""Machines whose past and the top tier's memory of it differ: an older image, a clone, a lost state.

Whatever they do, every version that was captured becomes a snapshot, nothing is stored twice, and stock restic
restores what was backed up.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.compare import assert_same_tree

from .command import Shell
from .hosts import Hierarchy, files_in


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    return Hierarchy(tmp_path).init()


@pytest.fixture
def alice(hierarchy: Hierarchy) -> Shell:
    """A client with two committed versions."""
    shell = hierarchy.client("alice")
    for word in ("one", "two"):
        version(shell, word)
        hierarchy.deliver(shell)
    return shell


def version(client: Shell, word: str) -> dict[str, Any]:
    """A version in which the file ``word`` holds that word; ``kept`` is the same in all."""
    files_in(client.folder / "files", kept="kept\n" * 1000, word=word)
    return client.json("backup")


def words(hierarchy: Hierarchy) -> Counter[str]:
    """What the file ``word`` holds in each snapshot of alice."""
    repository = hierarchy.repository()
    found: Counter[str] = Counter()
    for snapshot in repository.snapshots():
        (path,) = snapshot["paths"]
        found[repository.restic("dump", snapshot["id"], f"{path}/word").out] += 1
    return found


def numbers(hierarchy: Hierarchy) -> list[int]:
    tags = (tag for snapshot in hierarchy.repository().snapshots() for tag in snapshot["tags"])
    return sorted(int(tag.split(":")[2]) for tag in tags if tag.startswith("cdr-version:"))


def assert_well(hierarchy: Hierarchy, client: Shell) -> None:
    """restic has nothing to complain about, no blob is there twice, and the newest version comes back."""
    repository = hierarchy.repository()
    repository.check()
    assert [blob for blob, count in Counter(indexed_blobs(hierarchy)).items() if count > 1] == []
    source = client.folder / "files"
    target = hierarchy.folder / "restored"
    repository.restic("restore", "latest", "--target", target)
    assert_same_tree(source, target / source.relative_to("/"))


def indexed_blobs(hierarchy: Hierarchy) -> Iterator[tuple[str, str]]:
    repository = hierarchy.repository()
    for name in repository.restic("list", "index").out.split():
        index = json.loads(repository.restic("cat", "index", name).out)
        yield from ((blob["type"], blob["id"]) for pack in index["packs"] for blob in pack["blobs"])


def test_an_older_image_goes_on_behind_what_was_sent_since(hierarchy: Hierarchy, alice: Shell) -> None:
    """The image was made while its third version waited in the spool; since then that one and two more were sent."""
    version(alice, "three")
    image = hierarchy.folder / "image"
    shutil.copytree(alice.folder, image)
    for word in ("four", "five"):
        hierarchy.deliver(alice)
        version(alice, word)
    hierarchy.deliver(alice)
    packs = hierarchy.repository().packs()
    shutil.rmtree(alice.folder)
    image.rename(alice.folder)
    hierarchy.deliver(alice)
    assert hierarchy.repository().packs() == packs  # what came again was known
    assert [path for path in (hierarchy.folder / "storage").rglob("0000*") if path.is_file()] == []
    assert version(alice, "six")["version"] == 6
    hierarchy.deliver(alice)
    assert words(hierarchy) == Counter(["one", "two", "three", "four", "five", "six"])
    assert numbers(hierarchy) == [1, 2, 3, 4, 5, 6]
    assert_well(hierarchy, alice)


def test_two_machines_with_one_identity_lose_no_version(hierarchy: Hierarchy, alice: Shell) -> None:
    twin = Shell(hierarchy.folder / "twin")
    shutil.copytree(alice.folder, twin.folder)
    for turn, (first, second) in enumerate(((alice, twin), (twin, alice))):
        version(first, f"first {turn}")
        version(second, f"second {turn}")
        hierarchy.deliver(first)
        hierarchy.deliver(second)
    hierarchy.deliver(alice)
    hierarchy.deliver(twin)
    for client in (alice, twin):
        queue = client.json("status")["tiers"][0]["queue"]
        assert queue["segments"] == 0
        assert list((client.folder / "state" / "spool").iterdir()) == []  # committed, so released
    assert words(hierarchy) == Counter(["one", "two", "first 0", "second 0", "first 1", "second 1"])
    version(alice, "last")
    hierarchy.deliver(alice)
    assert_well(hierarchy, alice)


def test_a_client_without_state_goes_on_and_after_an_adoption_sends_little(
    hierarchy: Hierarchy, alice: Shell
) -> None:
    shutil.rmtree(alice.folder / "state")
    alice.cdr("init")
    hierarchy.enroll(alice)
    hierarchy.deliver(alice)
    hierarchy.hq.cdr("adopt", "alice")
    alice.cdr("adopt")
    made = version(alice, "three")
    assert made["version"] == 3
    assert made["data_blobs"] == 1  # the word; what is kept was adopted
    hierarchy.deliver(alice)
    assert words(hierarchy) == Counter(["one", "two", "three"])
    assert_well(hierarchy, alice)


def test_after_a_forget_and_prune_by_restic_the_next_but_one_version_is_whole_again(
    hierarchy: Hierarchy, alice: Shell
) -> None:
    """The first is captured before the client can know, and asks for what is gone, tree by tree; the standing
    that comes back with it makes the next one bring everything."""
    repository = hierarchy.repository()
    repository.restic("forget", "--prune", *(snapshot["id"] for snapshot in repository.snapshots()))
    version(alice, "three")
    hierarchy.deliver(alice)
    assert version(alice, "four")["version"] == 4
    hierarchy.deliver(alice)
    assert words(hierarchy)["four"] == 1
    assert_well(hierarchy, alice)
