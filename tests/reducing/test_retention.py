"""What a tier that reduces keeps of versions that never became whole there, and for how long."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pytest

from cdr_plugin.assembly import reducing_tiers
from cdr_plugin.files import folder_bytes
from cdr_plugin.identity.register import SenderKind
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.pins import is_pin
from cdr_plugin.top.state import ClientRows, VersionState
from tests.reducing.worlds import branch_world, client, fill, reducing, top, write
from tests.support.tiers import Tiers

MB = 1_000_000


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention looks at everything after each pass, and prunes whenever it may."""
    monkeypatch.setattr("cdr_plugin.reducing.tier.RETAIN_EVERY_S", 0.0)
    monkeypatch.setattr("cdr_plugin.reducing.retention._LATEST_PRUNE_S", 0)


def opened(tiers: Tiers, name: str = "branch") -> ReducingTier:
    return next(iter(reducing_tiers(tiers.config, tiers.tier(name), installed(), Reporter())))


def kept_bytes(tiers: Tiers, name: str = "branch") -> int:
    return folder_bytes(tiers.tier(name).state / "g" / "retained")


def held_trees(tiers: Tiers, name: str = "branch") -> int:
    with closing(opened(tiers, name)) as tier:
        return int(tier.state._db.connection.execute("SELECT COUNT(*) FROM held_trees").fetchone()[0])


def at_branch(tiers: Tiers) -> dict[int, VersionState]:
    """The versions of the only client, as the branch knows them."""
    with closing(opened(tiers)) as tier:
        (one,) = tier.register.clients("g")
        return {row.number: row.state for row in tier.state.client(one.fingerprint).versions()}


def retained(tiers: Tiers) -> tuple[int, int]:
    """How many versions, and how many pins, the branch has."""
    with closing(opened(tiers)) as tier, closing(tier.open_repository()) as repository:
        pins = [is_pin(version.snapshot) for version in repository.versions()]
        return pins.count(False), pins.count(True)


def lose_what_is_retained(tiers: Tiers, name: str = "branch") -> None:
    """Its next versions build on what is not here: they never become whole."""
    shutil.rmtree(tiers.tier(name).state / "g" / "retained")


def write_below(folder: Path, seed: int, size: int) -> None:
    """A new folder, whose tree travels as it is: not as a delta of one that is not here."""
    folder.mkdir()
    write(folder / "large", seed, size)


def never_whole(base: Path) -> Tiers:
    """A second version lies in the inbox of a branch that has lost what the first one left there."""
    tiers = branch_world(base, ["a"])
    tiers.backup("a")
    tiers.deliver(2)
    lose_what_is_retained(tiers)
    write_below(base / "a" / "new", 7, 2 * MB)
    tiers.backup("a")
    tiers.send("a")
    return tiers


def test_what_came_of_a_version_that_was_never_whole_here_goes_when_it_is_settled_above(tmp_path: Path) -> None:
    tiers = never_whole(tmp_path)
    for _ in range(2):  # it waits, and loses nothing
        tiers.receive("branch")
        assert (at_branch(tiers)[2], retained(tiers)) == (VersionState.PENDING, (0, 1))
        assert kept_bytes(tiers) > 2 * MB
        assert held_trees(tiers) > 0
    tiers.send("branch")
    tiers.receive("hq")
    tiers.send("branch")
    tiers.receive("branch")
    assert (at_branch(tiers)[2], retained(tiers)) == (VersionState.COMMITTED, (0, 0))
    assert kept_bytes(tiers) < 100_000
    assert held_trees(tiers) == 0
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a"]})


def test_a_crash_between_pins_and_rows_is_made_good_by_the_next_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiers = never_whole(tmp_path)
    for step, name in (("receive", "branch"), ("send", "branch"), ("receive", "hq"), ("send", "branch")):
        getattr(tiers, step)(name)
    with monkeypatch.context() as patch:
        patch.delattr(ClientRows, "abandon")
        with pytest.raises(AttributeError):
            tiers.receive("branch")
    assert retained(tiers) == (0, 0)
    assert kept_bytes(tiers) > 2 * MB
    tiers.receive("branch")
    assert kept_bytes(tiers) < 100_000
    assert held_trees(tiers) == 0


def test_a_version_that_is_still_arriving_loses_nothing_when_one_before_it_is_settled(tmp_path: Path) -> None:
    fill(tmp_path, ["a"])
    text = client("a", "branch").replace('"delta", ', "") + reducing("branch", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    tiers.backup("a")
    tiers.deliver(2)
    lose_what_is_retained(tiers)
    write_below(tmp_path / "a" / "new", 7, 2 * MB)
    tiers.backup("a")
    for step, name in (("send", "a"), ("receive", "branch"), ("send", "branch"), ("receive", "hq")):
        getattr(tiers, step)(name)
    shutil.rmtree(tmp_path / "a")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / "other", 8, 12 * MB)
    tiers.backup("a")
    tiers.send("a")
    last = max((tmp_path / "branch/inbox/clients").glob("*/*/*"), key=lambda segment: segment.name)
    away = last.rename(tmp_path / "on its way")
    before = kept_bytes(tiers)
    tiers.receive("branch")
    arrived = kept_bytes(tiers)
    assert arrived > before + MB
    tiers.send("branch")  # hears that the second one is committed
    tiers.receive("branch")
    assert at_branch(tiers) == {1: VersionState.COMMITTED, 2: VersionState.COMMITTED}
    assert retained(tiers) == (0, 1)
    assert kept_bytes(tiers) > arrived - 100_000
    last.parent.mkdir(exist_ok=True)
    away.rename(last)
    tiers.receive("branch")
    assert at_branch(tiers)[3] is VersionState.COMMITTED  # whole here
    assert retained(tiers) == (1, 0)
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a"]})
    assert 12 * MB < kept_bytes(tiers) < 13 * MB
    assert held_trees(tiers) == 0


def test_trees_that_a_tier_below_sent_go_when_none_of_its_clients_waits(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b"])
    text = client("a", "low") + client("b", "low") + reducing("low", "branch") + reducing("branch", "hq") + top()
    tiers = Tiers.make(tmp_path, text)
    for name in tiers.clients:
        tiers.backup(name)
    tiers.deliver(3)
    lose_what_is_retained(tiers)
    for name, seed in (("a", 7), ("b", 8)):
        write_below(tmp_path / name / "new", seed, MB)
        tiers.backup(name)
    for step, name in (("send", "a"), ("send", "b"), ("receive", "low"), ("send", "low"), ("receive", "branch")):
        getattr(tiers, step)(name)
    assert held_trees(tiers) > 1
    assert kept_bytes(tiers) > 2 * MB
    tiers.send("branch")
    tiers.receive("hq")
    tiers.send("branch")
    tiers.receive("branch")
    assert held_trees(tiers) == 0
    assert kept_bytes(tiers) < 100_000
    with closing(opened(tiers)) as branch:
        kinds = {one.kind for one in branch.register.clients("g")}
    assert kinds == {SenderKind.TIER, SenderKind.CLIENT}
    tiers.deliver(3)
    tiers.assert_settled("hq", {"g": ["a", "b"]})
