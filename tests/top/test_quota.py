"""Quotas hold up one client, tell it why, lose nothing and touch nobody else; unusual versions are pointed out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_plugin.client.notices import NOTICE
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.notice import write_notice
from cdr_plugin.tier_state import TierState
from cdr_plugin.top import quota, usage
from cdr_plugin.top.quota import recount
from cdr_plugin.top.usage import Usage
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger, quick_chain, restic
from tests.support.hierarchy import make_quick

QUOTA = 200_000


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    make_quick(monkeypatch)
    monkeypatch.setattr(quota, "RECOUNT_EVERY_S", 0)
    made = quick_chain(tmp_path)
    made.top.quota = QUOTA
    yield made
    made.top.close()


@pytest.fixture
def client(chain: Chain) -> Iterator[ClientTier]:
    made = chain.new_client()
    chain.send(made)
    chain.receive()
    yield made
    made.state.close()


def grow(chain: Chain, client: ClientTier, size: int, name: str = "file") -> None:
    source = chain.base / f"source-{client.name}"
    source.mkdir(exist_ok=True)
    (source / name).write_bytes(os.urandom(size))
    chain.backup(client, source)
    chain.send(client)


def segments(chain: Chain, client: ClientTier) -> list[Path]:
    folder = chain.inbox / "clients" / folder_id(client.identity.signing.public, chain.group)
    return sorted(path for path in folder.glob("*/*") if path.is_file())


def told(client: ClientTier) -> str:
    return (client.state.get(NOTICE) or b"").decode()


def states(client: ClientTier) -> list[str]:
    return [version.state.value for version in client.state.versions()]


def test_what_goes_beyond_stays_in_the_inbox_and_the_client_is_told_why(chain: Chain, client: ClientTier) -> None:
    other = Forger(chain, "other")
    grow(chain, client, 150_000)
    chain.receive()
    chain.send(client)
    assert states(client)[-1] == "committed" and told(client) == ""
    grow(chain, client, 100_000, "more")
    before = {path.name: path.read_bytes() for path in segments(chain, client)}
    other.send_files(f=b"one")
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 1  # the other's
    assert any("above its quota of 200000 bytes" in line for line in seen.errors)
    left = {path.name: path.read_bytes() for path in segments(chain, client)}
    assert left and left.items() <= before.items()
    chain.send(client)
    assert "the quota of 200000 bytes is used up" in told(client)
    assert states(client) == ["committed", "captured"] or states(client)[-1] != "committed"


def test_with_more_room_all_of_it_is_taken_and_the_notice_goes(chain: Chain, client: ClientTier) -> None:
    grow(chain, client, 300_000)
    assert chain.receive().versions_stored == 0
    chain.send(client)
    assert told(client)
    chain.top.quota = 10 * QUOTA
    assert chain.receive().versions_stored == 1
    chain.send(client)
    assert segments(chain, client) == [] and told(client) == "" and states(client) == ["committed"]


def test_nothing_that_stays_is_called_missing(chain: Chain, client: ClientTier) -> None:
    for _ in range(2):
        grow(chain, client, 300_000)
        assert chain.receive().blobs_missing == chain.receive().blobs_missing == 0


def test_what_was_forgotten_and_pruned_makes_room(chain: Chain, client: ClientTier) -> None:
    grow(chain, client, 150_000)
    chain.receive()
    (chain.base / "source-alice" / "file").unlink()
    grow(chain, client, 10_000, "small")
    chain.receive()
    chain.send(client)
    assert states(client) == ["committed", "committed"]
    grow(chain, client, 100_000, "more")
    recount(chain.top)
    assert chain.receive().versions_stored == 0
    restic(chain, "forget", "--keep-last", "1", "--prune")
    recount(chain.top)
    assert chain.receive().versions_stored == 1


def test_a_tier_whose_state_was_lost_counts_what_the_repository_holds(chain: Chain, client: ClientTier) -> None:
    grow(chain, client, 150_000)
    chain.receive()
    chain.top.close()
    for path in chain.top.state_folder.glob("state.db*"):
        path.unlink()
    chain.top = chain.new_top()
    chain.top.quota = QUOTA
    grow(chain, client, 1000, "small")
    chain.receive()
    recount(chain.top)
    delivered = Usage(chain.top.state, chain.top.register.clients()[0]).delivered
    assert 150_000 < delivered < QUOTA


def test_a_notice_of_somebody_else_or_an_old_one_is_refused(chain: Chain, client: ClientTier) -> None:
    grow(chain, client, 300_000)
    chain.receive()
    place = chain.inbox / answer_name(folder_id(client.identity.signing.public, "g"), Answer.NOTICE)
    old = place.read_bytes()
    chain.top.quota = 10 * QUOTA
    chain.receive()
    chain.send(client)
    for data, message in (
        (old, "replayed"),
        (
            write_notice(
                "obey", SigningKey.generate(), serial=1 << 62, client=client.identity.signing.public,
                sealing=client.identity.sealing_key("g").public, group="g", issued_s=1,
            ),
            "signed by",
        ),
    ):  # fmt: skip
        place.write_bytes(data)
        seen = Recorder()
        chain.send(client, seen)
        assert any(message in line for line in seen.errors), seen.errors
        assert told(client) == ""


# --- unusual versions ---


@pytest.fixture
def counted(chain: Chain, client: ClientTier, monkeypatch: pytest.MonkeyPatch) -> Usage:
    monkeypatch.setattr(usage, "UNUSUAL_FLOOR_BYTES", 1000)
    return Usage(TierState(chain.base / "other-state", "", 1), chain.top.register.clients()[0])


def warnings(counted: Usage, *sizes: int) -> list[bool]:
    found = []
    for number, size in enumerate(sizes, 1):
        counted.add(size)
        found.append(bool(counted.versions_committed([number])))
    return found


def test_a_version_with_many_times_the_usual_new_data_is_pointed_out(counted: Usage) -> None:
    assert warnings(counted, 500, 400, 600, 2501, 900) == [False, False, False, True, False]
    assert warnings(counted, 5000) == [True]
    assert "brought" in counted.warning


def test_small_and_first_versions_are_never_unusual(counted: Usage) -> None:
    assert warnings(counted, 1_000_000, 1, 1, 900) == [False] * 4


def test_several_versions_of_one_pass_share_what_came(counted: Usage) -> None:
    counted.add(4000)
    assert counted.versions_committed([1, 2, 3, 4]) == ""
    assert warnings(counted, 4000) == [False] and warnings(counted, 6000) == [True]


def test_the_operator_sees_the_warning_in_the_pass_that_commits(
    chain: Chain, client: ClientTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "UNUSUAL_FLOOR_BYTES", 10_000)
    seen = Recorder()
    for size in (100, 100, 100, 50_000):
        grow(chain, client, size)
        chain.receive(seen)
    (line,) = [line for line in seen.errors if "of new data" in line]
    assert line.startswith("client alice: version 4 brought 0.0 MiB of new data")
