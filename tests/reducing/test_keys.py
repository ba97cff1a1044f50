"""Keys of tiers that reduce, and of the one above them, are replaced, lost and recovered with parcels under way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest

from cdr_plugin.assembly import client_tier
from cdr_plugin.cli.main import main
from cdr_plugin.identity.store import Identity
from tests.reducing.worlds import branch_world, change
from tests.support.chain import Recorder
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers

CLIENTS = ("a", "b")
PASSPHRASE = "five words of your own choice"


@pytest.fixture
def tiers() -> Iterator[Tiers]:
    """Both clients have a committed version, and another one that is captured."""
    with folder_in_memory() as folder:
        made = branch_world(folder / "world")
        for name in CLIENTS:
            made.backup(name)
        made.deliver(2)
        for name in CLIENTS:
            change(made.base, name, 1)
            made.backup(name)
        yield made


def identity(tiers: Tiers, name: str) -> Identity:
    return Identity.load(tiers.tier(name).identity)


def rotate_top(tiers: Tiers) -> None:
    identity(tiers, "hq").rotate_sealing_key("g")
    identity(tiers, "hq").rotate_signing_key()


def rotate_branch(tiers: Tiers) -> None:
    identity(tiers, "branch").rotate_sealing_key("g")


def rotate_both(tiers: Tiers) -> None:
    rotate_top(tiers)
    rotate_branch(tiers)


def cdr(tiers: Tiers, *arguments: str) -> None:
    assert main([*arguments, "-q", "-c", str(tiers.base / "cdr.toml")]) == 0


def copy_of(tiers: Tiers) -> Tiers:
    base = tiers.base.with_name("kept")
    shutil.copytree(tiers.base, base)
    return Tiers(base)


def assert_settles(tiers: Tiers, *, rounds: int = 3) -> None:
    tiers.deliver(rounds)
    tiers.assert_settled("hq", {"g": list(CLIENTS)})


def another_version_of_each(tiers: Tiers) -> None:
    for name in CLIENTS:
        change(tiers.base, name, 2)
        tiers.backup(name)


def test_keys_may_be_replaced_at_every_step_of_a_round(tiers: Tiers) -> None:
    kept = copy_of(tiers)
    for point in range(len(tiers.steps())):
        for at, (_, step) in enumerate(tiers.steps()):
            if at == point:
                rotate_both(tiers)
            step()
        tiers.deliver()
        another_version_of_each(tiers)
        assert_settles(tiers, rounds=2)
        shutil.rmtree(tiers.base)
        shutil.copytree(kept.base, tiers.base)


def test_after_a_rotation_nobody_complains_and_all_know_the_newest_keys(tiers: Tiers) -> None:
    for _ in range(2):
        rotate_both(tiers)
        tiers.deliver(3)
        reporter = Recorder()
        for name in ("a", "b", "branch"):
            tiers.send(name, reporter)
        assert reporter.errors == []
    for name in CLIENTS:
        client = client_tier(tiers.tier(name), tiers.plugins)
        with closing(client.state):
            assert client.ticket.top == identity(tiers, "hq").signing.public
            assert client.ticket.issuer == identity(tiers, "branch").signing.public
            assert client.ticket.sealing == identity(tiers, "branch").sealing_key("g").public
    assert_settles(tiers)


def lost(tiers: Tiers, name: str, *, state: bool) -> None:
    shutil.rmtree(tiers.tier(name).identity)
    if state:
        shutil.rmtree(tiers.tier(name).state)


@pytest.mark.parametrize(("state", "point"), [(False, 2), (False, 4), (True, 0), (True, 2), (True, 4)])
def test_a_tier_that_reduces_comes_back_from_its_export(
    tiers: Tiers, state: bool, point: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever had been done by then: what is lost with its state is sent again by its clients."""
    monkeypatch.setenv("CDR_PASSPHRASE", PASSPHRASE)
    kept = str(tiers.base / "kept")
    cdr(tiers, "identity", "export", kept, "-T", "branch")
    for _, step in tiers.steps()[:point]:
        step()
    lost(tiers, "branch", state=state)
    cdr(tiers, "identity", "recover", kept, "-T", "branch")
    tiers.init()
    another_version_of_each(tiers)
    assert_settles(tiers, rounds=5)


def test_a_client_behind_it_goes_on_when_the_top_tier_comes_back_from_its_export(
    tiers: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDR_PASSPHRASE", PASSPHRASE)
    kept = str(tiers.base / "kept")
    cdr(tiers, "identity", "export", kept, "-T", "hq")
    for _, step in tiers.steps()[:4]:
        step()
    lost(tiers, "hq", state=True)
    cdr(tiers, "identity", "recover", kept, "-T", "hq")
    tiers.init()
    another_version_of_each(tiers)
    assert_settles(tiers, rounds=5)


def ticket_from(tiers: Tiers, issuer: str, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["ticket", "--group", "g", "-T", issuer, "-q", "-c", str(tiers.base / "cdr.toml")]) == 0
    path = tiers.base / f"ticket-of-{issuer}"
    path.write_text(capsys.readouterr().out)
    return str(path)


@pytest.mark.parametrize("state", [False, True])
def test_without_its_identity_a_tier_that_reduces_is_known_anew_by_the_operators_word(
    tiers: Tiers, state: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for _, step in tiers.steps()[:3]:
        step()
    lost(tiers, "branch", state=state)
    if not state:  # what it retained has its password in the identity
        shutil.rmtree(tiers.tier("branch").state / "g" / "retained")
    tiers.init()
    cdr(tiers, "enroll", ticket_from(tiers, "hq", capsys), "-T", "branch")
    for name in CLIENTS:
        cdr(tiers, "enroll", ticket_from(tiers, "branch", capsys), "-T", name)
    tiers.send("branch")
    tiers.receive("hq")
    new = identity(tiers, "branch").signing.public.fingerprint.hex()[:16]
    cdr(tiers, "clients", "rekey", "branch", new, "-T", "hq")
    another_version_of_each(tiers)
    assert_settles(tiers, rounds=6)
