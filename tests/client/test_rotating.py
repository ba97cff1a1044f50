"""A client's new keys: the old one vouches for the new one, and everything goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cdr_plugin.client.rotating import rotate_keys
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import AuthenticationError, UserError
from cdr_plugin.identity.keys import SealingKey, SigningKey
from cdr_plugin.identity.register import ClientState
from cdr_plugin.identity.succession import name_successor
from cdr_plugin.identity.successor import Successor, announce_successor
from cdr_plugin.parcel.naming import enrolment_name, folder_id
from tests.support.chain import Chain, Recorder
from tests.support.crashing import kill_at
from tests.support.forger import quick_chain
from tests.support.hierarchy import make_quick


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chain]:
    make_quick(monkeypatch)
    made = quick_chain(tmp_path)
    yield made
    made.top.close()


def a_version(chain: Chain, client: ClientTier, text: str) -> None:
    source = chain.base / "source"
    source.mkdir(exist_ok=True)
    (source / "letter").write_text(text)
    chain.backup(client, source)


@pytest.fixture
def client(chain: Chain) -> Iterator[ClientTier]:
    made = chain.new_client()
    a_version(chain, made, "one")
    chain.deliver(made)
    yield made
    made.state.close()


def anew(chain: Chain, client: ClientTier) -> ClientTier:
    """As the next command finds it."""
    client.state.close()
    return chain.client()


def requests(chain: Chain) -> list[Path]:
    return list((chain.inbox / "clients").rglob("enrol-*"))


def test_numbers_versions_and_possession_go_on_under_the_new_key(chain: Chain, client: ClientTier) -> None:
    old, before = client.identity.signing.public, chain.top.register.clients()[0]
    rotate_keys([client])
    client = anew(chain, client)
    a_version(chain, client, "two")
    seen = Recorder()
    chain.deliver(client, seen)
    assert seen.errors == [] and any("alice has new keys" in note for note in seen.notes)
    (after,) = chain.top.register.clients()
    assert (after.fingerprint, after.name) == (before.fingerprint, before.name)
    assert after.key == client.identity.signing.public != old
    assert after.sealing == client.identity.sealing_key("g").public != before.sealing
    assert [v.state.value for v in client.state.versions()] == ["committed", "committed"]
    first, second = chain.top.state.client(before.fingerprint).versions()
    assert second.previous == first.hash and second.number == 2
    chain.send(client)
    assert requests(chain) == []  # the tier has answered to the new key
    with pytest.raises(AuthenticationError, match="is not known"):
        chain.top.register.accept(old, "g")
    client.state.close()


def test_it_is_told_until_it_is_answered_in_the_same_words(chain: Chain, client: ClientTier) -> None:
    rotate_keys([client])
    client = anew(chain, client)
    chain.send(client)
    chain.send(client)
    assert len(requests(chain)) == 1
    chain.receive()
    assert requests(chain) == []
    chain.send(client)
    chain.receive()
    assert [c.key for c in chain.top.register.clients()] == [client.identity.signing.public]
    client.state.close()


def test_two_changes_before_the_tier_looks_are_one(chain: Chain, client: ClientTier) -> None:
    for _ in range(2):
        rotate_keys([client])
        client = anew(chain, client)
    a_version(chain, client, "two")
    chain.deliver(client)
    assert chain.top.register.clients()[0].key == client.identity.signing.public
    assert [v.state.value for v in client.state.versions()] == ["committed", "committed"]
    client.state.close()


def test_nothing_that_the_old_key_signed_may_be_on_its_way(chain: Chain, client: ClientTier) -> None:
    before = client.identity.signing.public
    a_version(chain, client, "two")
    with pytest.raises(UserError, match="1 segments are on their way, signed by the old key; rotate when"):
        rotate_keys([client])
    assert chain.client().identity.signing.public == before


def forged(chain: Chain, client: ClientTier, signer: SigningKey, *, named_by: SigningKey) -> None:
    predecessor = name_successor(named_by, signer.public)
    predecessor = type(predecessor)(key=client.identity.signing.public.raw, signature=predecessor.signature)
    data = announce_successor(client.ticket, signer, SealingKey.generate().public, [predecessor], issued_s=1)
    place = chain.inbox / enrolment_name(folder_id(signer.public, "g"), data)
    place.parent.mkdir(parents=True)
    place.write_bytes(data)


def test_a_key_that_the_client_never_named_takes_no_client_over(chain: Chain, client: ClientTier) -> None:
    mallory = SigningKey.generate()
    forged(chain, client, mallory, named_by=mallory)
    seen = Recorder()
    chain.receive(seen)
    assert any("does not verify" in line for line in seen.errors)
    assert chain.top.register.clients()[0].key == client.identity.signing.public


def test_strangers_revoked_clients_and_old_keys_name_no_successor(chain: Chain, client: ClientTier) -> None:
    register, old, new, newest = (
        chain.top.register,
        client.identity.signing,
        SigningKey.generate(),
        SigningKey.generate(),
    )
    sealing = SealingKey.generate().public

    def successor(of: SigningKey, key: SigningKey) -> Successor:
        return Successor("g", key.public, sealing, [name_successor(of, key.public)])

    with pytest.raises(AuthenticationError, match="no key before it is known"):
        register.succeed(successor(SigningKey.generate(), new))
    register.set_state(register.clients()[0].fingerprint, "g", ClientState.REVOKED)
    with pytest.raises(AuthenticationError, match="revoked"):
        register.succeed(successor(old, new))
    register.set_state(register.clients()[0].fingerprint, "g", ClientState.APPROVED)
    assert register.succeed(successor(old, new)).key == new.public
    assert register.succeed(successor(old, new)).key == new.public  # again
    with pytest.raises(AuthenticationError, match="no key before it is known"):
        register.succeed(successor(old, newest))  # a replay, or a thief of the old key


def test_a_kill_anywhere_in_rotating_leaves_the_old_keys_or_new_ones_that_are_accepted(
    chain: Chain, client: ClientTier
) -> None:
    client.state.close()
    at = 0
    while True:
        at += 1
        if not kill_at(at, lambda: rotate_keys([chain.client()])).killed:
            break
    again = chain.client()
    a_version(chain, again, "two")
    chain.deliver(again)
    assert [v.state.value for v in again.state.versions()] == ["committed", "committed"]
    assert chain.top.register.clients()[0].key == again.identity.signing.public
    again.state.close()
