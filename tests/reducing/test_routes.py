"""A tier that reduces is set up between clients and the tier that they have sent to."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.client.states import VersionState
from tests.reducing.worlds import change, client, fill, reducing, top
from tests.support.chain import Recorder
from tests.support.tiers import Tiers


def cdr(tiers: Tiers, *words: str) -> None:
    assert main([*words, "-q", "-c", str(tiers.base / "cdr.toml")]) == 0


def put_between(tiers: Tiers, capsys: pytest.CaptureFixture[str]) -> None:
    """The client sends to the new branch from now on, with a ticket of it."""
    (tiers.base / "cdr.toml").write_text(client("a", "branch") + reducing("branch", "hq") + top())
    tiers.init()
    capsys.readouterr()
    cdr(tiers, "ticket", "-T", "branch")
    (tiers.base / "branch.ticket").write_text(capsys.readouterr().out)
    cdr(tiers, "enroll", str(tiers.base / "branch.ticket"), "-T", "a")


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    fill(tmp_path, ["a"])
    made = Tiers.make(tmp_path, client("a", "hq") + top())
    made.backup("a")
    made.deliver()
    return made


def test_a_client_goes_on_as_who_it_is_and_sends_nothing_again(
    tiers: Tiers, capsys: pytest.CaptureFixture[str]
) -> None:
    put_between(tiers, capsys)
    tiers.deliver()  # the branch enrols with its first contact
    cdr(tiers, "clients", "route", "a", "branch", "-T", "hq")
    change(tiers.base, "a", 1)
    assert tiers.backup("a").spool.spooled_bytes < 30_000
    tiers.deliver(3)
    tiers.assert_settled("hq", {"g": ["a"]})
    assert len(tiers.stored("hq", "g")["a"]) == 2


def test_no_tier_takes_over_a_client_that_enrolled_elsewhere(tiers: Tiers, capsys: pytest.CaptureFixture[str]) -> None:
    put_between(tiers, capsys)
    change(tiers.base, "a", 1)
    tiers.backup("a")
    tiers.deliver()
    seen = Recorder()
    tiers.deliver()
    tiers.send("branch")
    tiers.receive("hq", seen)
    assert tiers.states("a")[2] is not VersionState.COMMITTED
    assert len(tiers.stored("hq", "g")["a"]) == 1
    cdr(tiers, "clients", "route", "a", "branch", "-T", "hq")
    (tiers.base / "a" / "later").write_bytes(b"later")
    tiers.backup("a")
    tiers.deliver(7)  # what was passed over is asked for, level by level
    tiers.assert_settled("hq", {"g": ["a"]})
