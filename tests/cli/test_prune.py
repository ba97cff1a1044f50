"""``cdr prune`` says what ``restic prune`` says, in its words or as JSON."""

from __future__ import annotations

import pytest

from tests.cli.repository_commands import Commands
from tests.restic.world import some_blobs, write_version


@pytest.fixture
def wasteful(commands: Commands) -> Commands:
    """Ten of thirty blobs are needed."""
    with commands.place.repository().writing() as session:
        removed = write_version(session, some_blobs(30))
        write_version(session, some_blobs(30)[:10])
        session.remove_version(removed)
    return commands


def test_a_dry_run_says_what_the_run_then_does(wasteful: Commands) -> None:
    planned = wasteful.lines("prune", "--dry-run", "--max-unused", "0")[-1]
    assert planned["message_type"] == "summary" and planned["dry_run"] is True
    assert planned["blobs_removed"] == planned["blobs_unused"] > 20
    done = wasteful.lines("prune", "--max-unused", "0")[-1]
    assert done == {**planned, "dry_run": False}
    wasteful.place.check()


def test_people_read_a_table(wasteful: Commands) -> None:
    planned = wasteful.cdr("prune", "-n", "--max-unused", "0").splitlines()
    assert planned[0].split()[:1] == ["used:"] and "would be repacked:" in "\n".join(planned)
    done = wasteful.cdr("prune", "--max-unused", "0")
    assert "unused size after prune: 0 B (0.00% of remaining size)" in done and "would" not in done
    nothing = wasteful.cdr("prune", "--max-unused", "0")
    assert "0 repacked, 0 removed" in nothing


def test_options_mean_what_they_mean_for_restic(wasteful: Commands) -> None:
    kept = wasteful.lines("prune", "-n", "--max-repack-size", "0")[-1]
    assert kept["packs_repacked"] == 0
    small = wasteful.lines("prune", "-n", "--max-unused", "unlimited", "--repack-smaller-than", "1G")[-1]
    assert small["packs_repacked"] > 0
    assert "max-unused" in wasteful.cdr("prune", "--max-unused", "all", code=1)
    assert "such as" in wasteful.cdr("prune", "--max-repack-size", "many", code=1)
