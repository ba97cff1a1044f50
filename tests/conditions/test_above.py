"""What a tier says of itself, and senders who wait for it to be ready."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from cdr_plugin.above import busy_above, within_what_is_offered
from cdr_plugin.assembly import intermediate_tier
from cdr_plugin.cli.main import main
from cdr_plugin.errors import ConfigError
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.parcel.naming import status_name
from cdr_plugin.parcel.tier_status import TierStatus, read_tier_status, write_tier_status
from cdr_plugin.plugins import installed
from tests.reducing.worlds import client, fill, moving, reducing, top
from tests.support.tiers import Tiers, make_tiers_quick

DAY_S = 86400
WAITS = 'when = { above = "ready" } }'


@pytest.fixture
def tiers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiers:
    """A client and a branch that wait for the tier above each, and a head office that is busy."""
    make_tiers_quick(monkeypatch)
    fill(tmp_path, ["a"], shared=1, own=1)
    text = client("a", "branch") + reducing("branch", "hq") + top()
    text = text.replace('to = "file:branch/inbox" }', f'to = "file:branch/inbox", {WAITS}')
    text = text.replace('mode = "first-reachable" }', f'mode = "first-reachable", {WAITS}')
    busy = 'limit = "1MiB/s", when = { command = "false" } }'
    text = text.replace('inbox = "file:hq/inbox" }', f'inbox = "file:hq/inbox", {busy}')
    return Tiers.make(tmp_path, text)


def cdr(tiers: Tiers, *words: str) -> int:
    return main([*words, "-q", "-c", str(tiers.base / "cdr.toml")])


def let_it_be_ready(tiers: Tiers) -> None:
    path = tiers.base / "cdr.toml"
    path.write_text(path.read_text().replace(', when = { command = "false" }', ""))


def test_a_sender_waits_while_the_tier_above_is_busy_and_goes_on_when_it_is_ready(tiers: Tiers) -> None:
    tiers.backup("a")
    for command, tier in (("receive", "branch"), ("send", "a"), ("receive", "branch"), ("receive", "hq")):
        cdr(tiers, command, "-T", tier)
    assert cdr(tiers, "send", "-T", "branch") == 75
    verdict = busy_above(tiers.tier("branch"), installed())
    assert verdict is not None
    assert verdict.reason == "waiting for the tier above, which says that it is busy"
    assert b"false" not in (tiers.base / "hq" / "inbox" / status_name("g")).read_bytes()
    let_it_be_ready(tiers)
    cdr(tiers, "receive", "-T", "hq")
    assert cdr(tiers, "send", "-T", "branch") == 0
    tiers.deliver(2)
    tiers.assert_settled("hq", {"g": ["a"]})


def test_a_tier_that_is_always_ready_says_nothing(tiers: Tiers) -> None:
    cdr(tiers, "receive", "-T", "branch")
    assert not list((tiers.base / "branch" / "inbox").glob("notes/*/status"))
    assert busy_above(tiers.tier("a"), installed()) is None


def test_what_somebody_else_says_of_it_or_what_is_too_old_stands_in_nobodys_way(tiers: Tiers) -> None:
    cdr(tiers, "receive", "-T", "hq")
    assert busy_above(tiers.tier("branch"), installed()) is not None
    place = tiers.base / "hq" / "inbox" / status_name("g")
    now_s = int(time.time())
    forged = TierStatus(True, now_s + 3600, serial=1 << 60)
    place.write_bytes(write_tier_status(forged, SigningKey.generate(), group="g", issued_s=now_s))
    assert busy_above(tiers.tier("branch"), installed()) is None


# --- through tiers that open nothing ---


@pytest.fixture
def moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiers:
    """A client and a branch, each below movers, that wait for the tier of their ticket; the head office is busy."""
    make_tiers_quick(monkeypatch)
    fill(tmp_path, ["a", "b"], shared=1, own=1)
    text = client("a", "low") + moving("low", "high") + client("b", "branch") + reducing("branch", "high")
    text += moving("high", "hq") + top()
    text = text.replace('to = "file:low/inbox" }', f'to = "file:low/inbox", {WAITS}')
    text = text.replace('mode = "first-reachable" }', f'mode = "first-reachable", {WAITS}')
    busy = 'limit = "1MiB/s", when = { command = "false" } }'
    text = text.replace('inbox = "file:hq/inbox" }', f'inbox = "file:hq/inbox", {busy}')
    return Tiers.make(tmp_path, text)


def note_at(tiers: Tiers, name: str) -> Path:
    return tiers.base / name / "inbox" / status_name("g")


def test_movers_carry_down_what_the_tier_above_says_and_take_it_away_when_it_is_said_no_more(moved: Tiers) -> None:
    moved.backup("a")
    for command, tier in (("receive", "hq"), ("send", "high"), ("send", "low")):
        cdr(moved, command, "-T", tier)
    assert note_at(moved, "low").read_bytes() == note_at(moved, "hq").read_bytes()
    assert cdr(moved, "send", "-T", "a") == 75
    assert busy_above(moved.tier("branch"), installed()) is not None
    let_it_be_ready(moved)
    for command, tier in (("receive", "hq"), ("send", "high"), ("send", "low")):
        cdr(moved, command, "-T", tier)
    forward = within_what_is_offered(moved.tier("a"), installed()).forward
    assert forward is not None
    assert forward.limit == 1024 * 1024
    path = moved.base / "cdr.toml"
    path.write_text(path.read_text().replace(', limit = "1MiB/s"', ""))
    for command, tier in (("receive", "hq"), ("send", "high"), ("send", "low")):
        cdr(moved, command, "-T", tier)
    assert not note_at(moved, "high").exists()
    assert not note_at(moved, "low").exists()
    moved.deliver(3)
    moved.assert_settled("hq", {"g": ["a"]})


def test_busy_stays_below_while_a_storage_above_cannot_be_reached(moved: Tiers) -> None:
    for command, tier in (("receive", "hq"), ("send", "high")):
        cdr(moved, command, "-T", tier)
    path = moved.base / "cdr.toml"
    path.write_text(path.read_text().replace('to = "file:hq/inbox" }', 'to = ["file:hq/inbox", "file:other" ] }'))
    (moved.base / "other").mkdir()
    (moved.base / "hq/inbox").rename(moved.base / "hq/away")
    cdr(moved, "send", "-T", "high")
    assert note_at(moved, "high").exists()


def test_a_mover_says_nothing_that_its_clients_believe_and_waits_for_nobodys_word(moved: Tiers) -> None:
    key, now_s = SigningKey.generate(), int(time.time())
    forged = write_tier_status(TierStatus(True, now_s + 3600, serial=1 << 60), key, group="g", issued_s=now_s)
    note_at(moved, "high").parent.mkdir(parents=True)
    note_at(moved, "high").write_bytes(forged)
    cdr(moved, "send", "-T", "low")
    assert note_at(moved, "low").read_bytes() == forged
    assert busy_above(moved.tier("a"), installed()) is None
    path = moved.base / "cdr.toml"
    path.write_text(path.read_text().replace('to = "file:hq/inbox" }', f'to = "file:hq/inbox", {WAITS}'))
    with pytest.raises(ConfigError, match="with 'above' of a tier without keys"):
        intermediate_tier(moved.tier("high"), installed())


def test_an_older_word_that_a_mover_brings_late_is_not_believed(moved: Tiers) -> None:
    cdr(moved, "receive", "-T", "hq")
    before = note_at(moved, "hq").read_bytes()
    let_it_be_ready(moved)
    for command, tier in (("receive", "hq"), ("send", "high"), ("send", "low")):
        cdr(moved, command, "-T", tier)
    assert busy_above(moved.tier("a"), installed()) is None
    note_at(moved, "low").write_bytes(before)
    assert busy_above(moved.tier("a"), installed()) is None


def test_a_limit_that_nobody_repeats_runs_out(moved: Tiers, monkeypatch: pytest.MonkeyPatch) -> None:
    let_it_be_ready(moved)
    for command, tier in (("receive", "hq"), ("send", "high")):
        cdr(moved, command, "-T", tier)
    before, now_s = note_at(moved, "hq").read_bytes(), time.time()
    monkeypatch.setattr("time.time", lambda: now_s + 11 * DAY_S)
    cdr(moved, "receive", "-T", "hq")
    assert note_at(moved, "hq").read_bytes() != before
    assert within_what_is_offered(moved.tier("branch"), installed()).forward.limit == 1024 * 1024  # type: ignore[union-attr]
    monkeypatch.setattr("time.time", lambda: now_s + 46 * DAY_S)
    assert within_what_is_offered(moved.tier("branch"), installed()).forward.limit is None  # type: ignore[union-attr]


def test_busy_ends_after_a_day_even_if_it_is_never_taken_back() -> None:
    key = SigningKey.generate()
    data = write_tier_status(TierStatus(True, 10**12, serial=3), key, group="g", issued_s=1000)
    assert read_tier_status(data, tier=key.public, group="g", now_s=1000).until_s == 1000 + 86400


def test_senders_keep_to_the_bandwidth_that_is_offered(tiers: Tiers) -> None:
    let_it_be_ready(tiers)
    cdr(tiers, "receive", "-T", "hq")
    forward = within_what_is_offered(tiers.tier("branch"), installed()).forward
    assert forward is not None
    assert forward.limit == 1024 * 1024
