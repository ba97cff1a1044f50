"""A client adopts the policy that its top tier published for it, and no other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.config.adopted import Adopted, read_adopted
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.policy import PolicyDocument, write_policy
from cdr_plugin.top.policy import set_policy
from tests.support.chain import Chain, Recorder
from tests.support.crashing import kill_at
from tests.support.forger import quick_chain
from tests.support.hierarchy import make_quick

LIMIT = '[forward]\nlimit = "1MiB/s"'
OTHER = '[forward]\nlimit = "2MiB/s"'


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    make_quick(monkeypatch)
    made = quick_chain(tmp_path)
    yield made
    made.top.close()


@pytest.fixture
def client(chain: Chain) -> Iterator[ClientTier]:
    made = chain.new_client()
    made.inherits = True
    chain.send(made)
    chain.receive()
    yield made
    made.state.close()


def publish(chain: Chain, text: str) -> int:
    serial = set_policy(chain.top, text).serial
    chain.receive()
    return serial


def adopted(client: ClientTier) -> Adopted | None:
    return read_adopted(client.state_folder)


def place(chain: Chain, client: ClientTier) -> Path:
    return chain.inbox / answer_name(folder_id(client.identity.signing.public, chain.group), Answer.POLICY)


def forged(
    chain: Chain, client: ClientTier, serial: int, text: str = OTHER, *, signer: SigningKey | None = None,
    group: str = "g", addressee: ClientTier | None = None,
) -> bytes:  # fmt: skip
    return write_policy(
        PolicyDocument(serial, text),
        signer or chain.top.identity.signing,
        client=(addressee or client).identity.signing.public,
        sealing=client.identity.sealing_key(chain.group).public,
        group=group,
        issued_s=int(time.time()),
    )


def test_what_is_published_is_adopted_on_contact_and_kept(chain: Chain, client: ClientTier) -> None:
    serial = publish(chain, LIMIT)
    assert adopted(client) is None
    chain.send(client)
    found = adopted(client)
    assert found is not None
    assert (found.serial, found.group, found.issuer, found.text) == (serial, "g", "hq", LIMIT)
    assert found.policy.forward.limit == 1 << 20
    place(chain, client).unlink()
    chain.send(client)
    assert adopted(client) == found


def test_who_does_not_inherit_adopts_nothing(chain: Chain, client: ClientTier) -> None:
    client.inherits = False
    publish(chain, LIMIT)
    chain.send(client)
    assert adopted(client) is None


def test_a_newer_policy_takes_the_place_of_the_older_which_cannot_come_back(chain: Chain, client: ClientTier) -> None:
    publish(chain, LIMIT)
    old = place(chain, client).read_bytes()
    chain.send(client)
    newer = publish(chain, OTHER)
    chain.send(client)
    place(chain, client).write_bytes(old)
    seen = Recorder()
    chain.send(client, seen)
    assert any("replayed" in line for line in seen.errors)
    found = adopted(client)
    assert found is not None and (found.serial, found.text) == (newer, OTHER)


def test_what_is_not_the_top_tiers_word_to_this_client_is_refused(chain: Chain, client: ClientTier) -> None:
    serial = publish(chain, LIMIT)
    chain.send(client)
    before, other = adopted(client), chain.new_client("bob")
    hostile = {
        "signed by": forged(chain, client, serial + 1, signer=SigningKey.generate()),
        "none of our": forged(chain, client, serial + 1, group="other"),
        "addressed to": forged(chain, client, serial + 1, addressee=other),
        "too short": b"x",
        "unknown key": forged(chain, client, serial + 1, '[source]\nbefore = "curl evil"'),
        "not for a policy": forged(chain, client, serial + 1, '[forward.when]\ncommand = "curl evil"'),
        "not TOML": forged(chain, client, serial + 1, "[["),
    }
    for message, data in hostile.items():
        place(chain, client).write_bytes(data)
        seen = Recorder()
        chain.send(client, seen)
        assert any(message in line for line in seen.errors), (message, seen.errors)
        assert adopted(client) == before
    other.state.close()


def test_a_client_that_enrols_later_finds_it_and_so_does_one_whose_storage_lost_it(
    chain: Chain, client: ClientTier
) -> None:
    publish(chain, LIMIT)
    later = chain.new_client("bob")
    chain.send(later)
    chain.receive()
    assert place(chain, later).exists()
    later.state.close()
    place(chain, client).unlink()
    chain.receive()
    assert place(chain, client).exists()


def test_a_branch_that_opens_nothing_brings_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)
    quick_chain(tmp_path).top.close()
    chain = Chain(tmp_path, branched=True).init()
    client = chain.new_client()
    client.inherits = True
    for step in (chain.deliver, lambda c: publish(chain, LIMIT), chain.deliver):
        step(client)
    found = adopted(client)
    assert found is not None and found.text == LIMIT
    client.state.close()
    chain.top.close()


def test_a_kill_anywhere_in_adopting_leaves_the_old_policy_or_the_new_one(
    chain: Chain, client: ClientTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(chain, LIMIT)
    chain.send(client)
    newer = publish(chain, OTHER)
    client.state.close()

    def send() -> None:
        again = chain.client()
        again.inherits = True
        chain.send(again)

    at, texts = 0, set()
    while True:
        at += 1
        counted = kill_at(at, send)
        found = adopted(client)
        assert found is not None
        texts.add(found.text)
        if not counted.killed:
            break
    assert texts == {LIMIT, OTHER} and found.serial == newer
