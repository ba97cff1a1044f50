"""Quotas, conditions and bandwidth of groups at a tier that reduces: it holds its own clients up, and nobody else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from cdr_plugin.assembly import client_tier, reducing_tiers
from cdr_plugin.cli.main import main
from cdr_plugin.client.notices import NOTICE
from cdr_plugin.client.states import SegmentState, VersionState
from cdr_plugin.config import load_config
from cdr_plugin.model.blobs import BlobType, Payload, blob_id
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.records import Preamble
from cdr_plugin.parcel.version import chunker_id
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.retention import retain
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.top import quota
from cdr_plugin.top.quota import recount
from cdr_plugin.top.usage import Usage
from tests.reducing.test_hostile import SenderForger
from tests.reducing.worlds import change, client, fill, reducing, top
from tests.support.chain import Recorder
from tests.support.forger import plain
from tests.support.tiers import Tiers

QUOTA = 400_000


@pytest.fixture(autouse=True)
def recounts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "RECOUNT_EVERY_S", 0)


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    """Clients a and b below a branch with a quota; each has some 150 kB."""
    fill(tmp_path, ["a", "b"], shared=3, own=2)
    made = Tiers.make(tmp_path, world(QUOTA))
    for name in made.clients:
        made.backup(name)
    made.deliver(2)
    return made


def world(quota_bytes: int) -> str:
    branch = reducing("branch", "hq", retain=', retain = { for = "1d" }')
    limited = f"{branch}\n[tier.branch.group.g]\nquota = {quota_bytes}\n"
    return client("a", "branch") + client("b", "branch") + limited + top()


@contextmanager
def opened(tiers: Tiers) -> Iterator[ReducingTier]:
    (tier,) = reducing_tiers(tiers.config, tiers.tier("branch"), installed(), Reporter())
    with closing(tier):
        yield tier


def receive(tiers: Tiers) -> None:
    """As ``cdr receive`` does it."""
    with opened(tiers) as branch:
        recount(branch)
    tiers.receive("branch")


def delivered(tiers: Tiers, name: str) -> int:
    with opened(tiers) as branch:
        return next(Usage(branch.state, c).delivered for c in branch.register.clients("g") if c.name == name)


def told(tiers: Tiers, name: str) -> str:
    tier = client_tier(tiers.tier(name), installed())
    with closing(tier.state):
        return (tier.state.get(NOTICE) or b"").decode()


def add(tiers: Tiers, name: str, size: int, file: str = "more") -> None:
    (tiers.base / name / file).write_bytes(os.urandom(size))
    tiers.backup(name)
    tiers.send(name)


def test_a_client_above_its_quota_waits_is_told_and_delays_nobody(tiers: Tiers) -> None:
    add(tiers, "a", 300_000)
    change(tiers.base, "b", 1)
    tiers.backup("b")
    tiers.deliver(2)
    assert tiers.states("a") == {1: VersionState.COMMITTED, 2: VersionState.IN_TRANSIT}
    assert tiers.states("b") == dict.fromkeys((1, 2), VersionState.COMMITTED)
    assert f"the quota of {QUOTA} bytes is used up" in told(tiers, "a") and told(tiers, "b") == ""
    (tiers.base / "cdr.toml").write_text(world(3 * QUOTA))
    tiers.deliver(3)
    tiers.assert_settled("hq", {"g": ["a", "b"]})
    assert told(tiers, "a") == ""


def test_what_the_branch_no_longer_retains_still_counts(tiers: Tiers) -> None:
    add(tiers, "a", 200_000)
    tiers.deliver(2)
    (tiers.base / "a" / "more").unlink()
    add(tiers, "a", 1000, "small")
    tiers.deliver(2)
    before = delivered(tiers, "a")
    with opened(tiers) as branch:
        retained = folder_bytes(branch)
        retain(branch, time.time() + 10 * 86400, Reporter())
        assert folder_bytes(branch) < retained - 150_000
    add(tiers, "a", 100_000)
    receive(tiers)
    tiers.send("a")
    assert told(tiers, "a")
    receive(tiers)
    assert delivered(tiers, "a") == before
    assert tiers.states("a")[4] is VersionState.IN_TRANSIT


def folder_bytes(branch: ReducingTier) -> int:
    return sum(path.stat().st_size for path in Path(branch.repository).rglob("*") if path.is_file())


def test_a_branch_whose_state_was_lost_counts_what_it_retained(tiers: Tiers) -> None:
    before = delivered(tiers, "a")
    for path in (tiers.base / "branch/state/g").glob("state.db*"):
        path.unlink()
    add(tiers, "a", 1000)
    receive(tiers)
    receive(tiers)
    assert before * 0.9 < delivered(tiers, "a") < before * 1.5


def test_payloads_that_cannot_be_decoded_at_the_branch_count_as_well(tiers: Tiers) -> None:
    """Without a version behind them they stay in the branch's spool: no more of them than the quota allows."""
    tier = client_tier(tiers.tier("a"), installed())
    with closing(tier.state):
        hostile = SenderForger(tier, tiers.base / "branch/inbox")
        hostile.put_segments([hostile.records(garbage()) for _ in range(50)])
    change(tiers.base, "b", 1)
    tiers.backup("b")
    tiers.send("b")
    seen = Recorder()
    before = delivered(tiers, "a")
    went_up = tiers.receive("branch", seen).bytes_out
    while more := tiers.receive("branch").bytes_out:
        went_up += more
    assert any(line.startswith(f"client a: above its quota of {QUOTA} bytes") for line in seen.errors)
    assert before + 100_000 < delivered(tiers, "a") <= QUOTA and went_up < QUOTA
    tiers.deliver(2)
    assert tiers.states("b") == dict.fromkeys((1, 2), VersionState.COMMITTED)


def garbage() -> Payload:
    """Of a method that nobody here has."""
    data = os.urandom(20_000)
    return Payload(BlobType.DATA, blob_id(os.urandom(8)), "strange/1", len(data), data)


# --- conditions and bandwidth ---

NEVER = 'when = { command = "false" }'


def two_groups(base: Path, work: str, receive: str = "") -> str:
    fill(base, ["home", "work"], shared=1, own=1)
    groups = f"[tier.branch.group.home]\n[tier.branch.group.work]\n{work}\n"
    clients = client("home", "branch", "home") + client("work", "branch", "work")
    return clients + reducing("branch", "hq", retain=receive) + groups + top()


def waits_to_go_up(tiers: Tiers, group: str) -> int:
    found = list(reducing_tiers(tiers.config, tiers.tier("branch"), installed(), Reporter()))
    (tier,) = (tier for tier in found if tier.group == group)
    with closing(tier):
        return sum(bool(uplink.state.segments(SegmentState.SPOOLED)) for uplink in tier.uplinks)


def test_one_group_waits_for_its_own_condition_and_the_other_goes_up(tmp_path: Path) -> None:
    tiers = Tiers.make(tmp_path, two_groups(tmp_path, NEVER))
    for name in tiers.clients:
        tiers.backup(name)
        tiers.send(name)
    assert main(["receive", "-q", "-c", str(tmp_path / "cdr.toml")]) == 75
    assert waits_to_go_up(tiers, "home") and not waits_to_go_up(tiers, "work")
    (tmp_path / "cdr.toml").write_text(two_groups(tmp_path, ""))
    tiers.deliver(2)
    tiers.assert_settled("hq", {"home": ["home"], "work": ["work"]})


def test_a_group_s_limit_is_a_bucket_of_its_own_and_the_others_share_one(tmp_path: Path) -> None:
    text = two_groups(tmp_path, 'limit = "2MiB/s"', ', limit = "1MiB/s"') + "[tier.branch.group.other]\n"
    (tmp_path / "cdr.toml").write_text(text)
    config = load_config(tmp_path / "cdr.toml")
    found = list(reducing_tiers(config, config.tiers["branch"], installed(), Reporter()))
    buckets = {tier.group: tier.plugins._bucket for tier in found}
    rates = {group: bucket._rate for group, bucket in buckets.items() if bucket is not None}
    assert rates == {"home": 1 << 20, "other": 1 << 20, "work": 2 << 20}
    assert buckets["home"] is buckets["other"]


@pytest.mark.parametrize("decodes", [True, False])
def test_what_comes_again_with_each_pass_counts_and_goes_up_once(tiers: Tiers, decodes: bool) -> None:
    """A segment stays in the inbox as long as a payload that began in it is not whole."""
    segments, before = begun_segments(tiers, plain(os.urandom(20_000)) if decodes else garbage()), delivered(tiers, "a")
    last = segments[-1].read_bytes()
    segments[-1].unlink()
    first, *others = [tiers.receive("branch") for _ in range(5)]
    counted = delivered(tiers, "a") - before
    assert first.bytes_out > 20_000 and 20_000 <= counted <= 30_000
    assert all(result.segments == 0 and result.bytes_out < 5_000 for result in others)
    segments[-1].write_bytes(last)
    result = tiers.receive("branch")
    assert result.segments == len(segments)
    assert 100_000 <= delivered(tiers, "a") - before - counted <= 101_000
    assert result.bytes_out < 105_000


def begun_segments(tiers: Tiers, first: Payload) -> list[Path]:
    """``first``, and a payload that ends in the last segment."""
    tier = client_tier(tiers.tier("a"), installed())
    with closing(tier.state):
        sender = SenderForger(tier, tiers.base / "branch/inbox")
        preamble = Preamble(2, sender.key.public.fingerprint, chunker_id(tier.ticket.chunker), "x")
        builder = SegmentBuilder(preamble, 65536)
        made = [*builder.add_payload(first), *builder.add_payload(plain(os.urandom(100_000))), builder.finish()]
        return sender.put_segments([bytes(one) for one in made if one])
