"""What a send of a tier that reduces reads follows what is new, not how many clients it speaks for."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from cdr_local.transport import LocalTransport
from cdr_plugin.assembly import reducing_tiers
from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.parcel.naming import ANSWERS, Answer, answer_name, folder_id
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from cdr_plugin.unchanged import REREAD_S
from tests.reducing.worlds import branch_world, change
from tests.support.crowd import add_crowd, statements
from tests.support.tiers import Tiers

NAMES = ["a", "b", "c"]


@pytest.fixture
def tiers(tmp_path: Path) -> Tiers:
    """All has been told, and looked at once more."""
    made = branch_world(tmp_path / "base", NAMES)
    for name in NAMES:
        made.backup(name)
    made.deliver(3)
    made.send("branch")
    return made


@pytest.fixture
def gets(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[str, str]]:
    """How often each object is read, by tier and name."""
    found: Counter[tuple[str, str]] = Counter()
    get = LocalTransport.get

    def counted(self: LocalTransport, name: str, offset: int = 0, length: int | None = None) -> bytes:
        found[self._path.parent.name, name] += 1
        return get(self, name, offset, length)

    monkeypatch.setattr(LocalTransport, "get", counted)
    return found


def opened(tiers: Tiers) -> ReducingTier:
    (tier,) = reducing_tiers(tiers.config, tiers.tier("branch"), installed(), Reporter())
    return tier


def answers(tiers: Tiers, answer: Answer) -> dict[str, str]:
    """The objects of all senders of the branch and of the branch itself, by whose they are."""
    with closing(opened(tiers)) as branch:
        keys = {client.name: client.key for client in branch.register.clients("g")}
        keys["branch"] = branch.identity.signing.public
    return {name: answer_name(folder_id(key, "g"), answer) for name, key in keys.items()}


def next_version(tiers: Tiers, name: str) -> None:
    """As far as the head office, whose answer lies there."""
    change(tiers.base, name, 3)
    tiers.backup(name)
    tiers.send(name)
    for step, tier in ((tiers.receive, "branch"), (tiers.send, "branch"), (tiers.receive, "hq")):
        step(tier)


def test_of_many_relayed_receipts_the_new_one_is_read(tiers: Tiers, gets: Counter[tuple[str, str]]) -> None:
    receipts = answers(tiers, Answer.RECEIPT)
    next_version(tiers, "a")
    gets.clear()
    tiers.send("branch")
    assert [name for name in receipts if gets["hq", receipts[name]]] == ["a", "branch"]
    assert gets["hq", receipts["branch"]] == 1  # nothing was sent, behind which to look again
    tiers.deliver()
    tiers.assert_settled("hq", {"g": NAMES})


def test_what_was_carried_down_is_read_again_neither_above_nor_below(
    tiers: Tiers, gets: Counter[tuple[str, str]]
) -> None:
    standings = answers(tiers, Answer.STANDING)
    next_version(tiers, "a")
    gets.clear()
    tiers.send("branch")
    read = {(tier, name) for name in standings for tier in ("hq", "branch") if gets[tier, standings[name]]}
    assert read == {("hq", "a"), ("branch", "a")}
    assert (tiers.base / "hq/inbox" / standings["a"]).read_bytes() == (
        tiers.base / "branch/inbox" / standings["a"]
    ).read_bytes()


def test_what_an_inbox_below_has_lost_is_brought_again(tiers: Tiers) -> None:
    standing = answers(tiers, Answer.STANDING)["b"]
    (tiers.base / "branch/inbox" / standing).unlink()
    tiers.send("branch")
    assert (tiers.base / "branch/inbox" / standing).exists()


def test_all_are_read_where_the_storage_does_not_tell_what_was_replaced(
    tiers: Tiers, gets: Counter[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_local.transport._info", lambda name, status: ObjectInfo(name, status.st_size))
    receipts = answers(tiers, Answer.RECEIPT)
    for _ in range(2):
        gets.clear()
        tiers.send("branch")
        assert all(gets["hq", name] for name in receipts.values())


def test_a_receipt_that_a_listing_hides_is_read_within_the_hour(
    tiers: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a clock that stands still, or of a storage that lists late."""

    def info(name: str, status: os.stat_result) -> ObjectInfo:
        return ObjectInfo(name, 1, "as ever") if name.startswith(ANSWERS) else ObjectInfo(name, status.st_size)

    with monkeypatch.context() as patch:
        patch.setattr("cdr_local.transport._info", info)
        tiers.send("branch")  # each looks other than before, and is read
        next_version(tiers, "b")
        tiers.send("branch")
        assert not told(tiers, "b")
        with closing(opened(tiers)) as branch:
            state = branch.uplinks[0].state
            for kind, last_s in state.facts("all-read:").items():
                state.put({f"all-read:{kind}": str(float(last_s) - REREAD_S)})
        tiers.send("branch")
        assert told(tiers, "b")


def told(tiers: Tiers, name: str) -> bool:
    """Does the branch know that its newest version of a client is committed above?"""
    with closing(opened(tiers)) as branch:
        (client,) = (one for one in branch.register.clients("g") if one.name == name)
        told = branch.uplinks[0].state.told(client.fingerprint)
        return told[max(told)][0] == "committed"


def test_a_pass_and_a_send_ask_the_state_as_much_for_many_clients_as_for_few(
    tiers: Tiers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(number: int) -> tuple[int, int]:
        change(tiers.base, "a", number)
        tiers.backup("a")
        tiers.send("a")
        with statements(monkeypatch) as received:
            tiers.receive("branch")
        with statements(monkeypatch) as sent:
            tiers.send("branch")
        tiers.deliver(2)
        return len(received), len(sent)

    crowd(tiers, 2)
    few = asked(4)
    crowd(tiers, 20)
    assert asked(5) == few


def crowd(tiers: Tiers, clients: int) -> None:
    with closing(opened(tiers)) as branch:
        found = add_crowd(branch, clients)
        branch.uplinks[0].state.introduced(client.fingerprint for client in found)
    tiers.deliver()
