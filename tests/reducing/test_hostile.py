"""Hostile clients and tiers below a receiving tier: they speak for themselves, and for those who came through them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import msgpack
import pytest

from cdr_plugin.assembly import client_tier, reducing_tiers
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.identity.documents import NEVER_S
from cdr_plugin.identity.keys import SigningKey
from cdr_plugin.identity.register import Client
from cdr_plugin.model.blobs import BlobType, blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.attestation import Attestation, sign_attestation
from cdr_plugin.parcel.introduction import Introduction
from cdr_plugin.parcel.naming import Answer, answer_name, folder_id
from cdr_plugin.parcel.records import ATTESTATION, INTRODUCTION
from cdr_plugin.plugins import installed
from cdr_plugin.reporter import Reporter
from cdr_plugin.top.tier import TopTier
from tests.reducing.worlds import client, fill, reducing, top
from tests.support.chain import Recorder
from tests.support.forger import Forger, file_node, plain
from tests.support.memory import folder_in_memory
from tests.support.tiers import Tiers, opened_tiers

SECRET = b"what only the client a has" * 40


@dataclass(frozen=True)
class _Place:
    inbox: Path


class SenderForger(Forger):
    """A client or tier of a hierarchy, every byte of which the test decides from now on."""

    def __init__(self, tier: ClientTier, inbox: Path) -> None:
        self.chain = cast(Any, _Place(inbox))
        self.tier = tier
        self.key: SigningKey = tier.identity.signing
        self.group = "g"
        self.number, self.previous, self.parcels, self.head_serial = 0, b"", [], 1 << 60

    def attests(self, client: bytes, *blobs: bytes) -> bytes:
        said = Attestation("g", b"", 0, NEVER_S, client, [(BlobType.DATA, blob_id(data)) for data in blobs])
        signed = sign_attestation(said, self.key)
        return bytes(msgpack.packb((ATTESTATION, signed.body, signed.signature)))


def introduces(client: Client) -> bytes:
    said = Introduction(client.key, client.sealing, client.name, {})
    return bytes(msgpack.packb((INTRODUCTION, said.to_bytes())))


@pytest.fixture
def tiers() -> Iterator[Tiers]:
    """Clients a and b come through a branch, c through another one, d to the top tier itself; a has delivered."""
    with folder_in_memory() as folder:
        base = folder / "world"
        fill(base, ["a", "b", "c", "d"], shared=1, own=1)
        (base / "a" / "secret").write_bytes(SECRET)
        text = client("a", "branch") + client("b", "branch") + client("c", "other") + client("d", "hq")
        made = Tiers.make(base, text + reducing("branch", "hq") + reducing("other", "hq") + top())
        made.backup("a")
        made.deliver(2)
        yield made


@pytest.fixture
def b(tiers: Tiers) -> Iterator[SenderForger]:
    tier = client_tier(tiers.tier("b"), installed())
    with closing(tier.state):
        yield SenderForger(tier, tiers.base / "branch/inbox")


@pytest.fixture
def branch(tiers: Tiers) -> Iterator[SenderForger]:
    with closing(next(iter(reducing_tiers(tiers.config, tiers.tier("branch"), installed(), Reporter())))) as tier:
        yield SenderForger(tier.uplinks[0], tiers.base / "hq/inbox")


def named(tiers: Tiers, at: str, name: str) -> Client:
    with opened_tiers(tiers, at) as (found,):
        return next(c for c in cast(TopTier, found).register.clients("g") if c.name == name)


def possesses(tiers: Tiers, at: str, name: str, data: bytes) -> bool:
    key = bytes((BlobType.DATA,)) + blob_id(data)
    client = named(tiers, at, name)
    with opened_tiers(tiers, at) as (found,):
        return cast(TopTier, found).state.client(client.fingerprint).possesses(key)


@pytest.mark.parametrize("format_", [1, 2])
def test_a_client_attests_nothing_and_introduces_nobody(tiers: Tiers, b: SenderForger, format_: int) -> None:
    own = b.key.public.fingerprint
    stranger = named(tiers, "hq", "d")
    for record in (b.attests(own, SECRET), introduces(stranger)):
        b.put_segments([b.records(record, format=format_)])
    assert tiers.receive("branch").rejected == 2
    assert not possesses(tiers, "branch", "b", SECRET)
    assert {c.name for c in _clients(tiers, "branch")} == {"a", "b"}


def _clients(tiers: Tiers, at: str) -> list[Client]:
    with opened_tiers(tiers, at) as (found,):
        return cast(TopTier, found).register.clients("g")


def test_what_a_client_sends_under_another_name_is_its_own(tiers: Tiers, b: SenderForger) -> None:
    new = os.urandom(500)
    b.put_segments([b.records(plain(new), client=named(tiers, "branch", "a").fingerprint)])
    tiers.receive("branch")
    assert possesses(tiers, "branch", "b", new)
    assert not possesses(tiers, "branch", "a", new)


def test_what_others_delivered_is_as_missing_as_what_nobody_has(tiers: Tiers, b: SenderForger) -> None:
    nowhere = os.urandom(len(SECRET))
    b.send_version([], encode_tree([file_node("1", SECRET), file_node("2", nowhere)]))
    for step, name in (("receive", "branch"), ("send", "branch"), ("receive", "hq"), ("send", "branch")):
        getattr(tiers, step)(name)
    assert {id_ for _, id_ in b.receipt().missing} == {blob_id(SECRET), blob_id(nowhere)}
    assert tiers.receive("hq").blobs_duplicate == 0


@pytest.mark.parametrize("name", ["d", "c", "other"])
def test_a_tier_speaks_for_nobody_who_did_not_come_through_it(tiers: Tiers, branch: SenderForger, name: str) -> None:
    victim = named(tiers, "hq", name)
    new = os.urandom(500)
    said = branch.attests(victim.fingerprint, SECRET)
    branch.put_segments([
        branch.records(introduces(victim), plain(new), said, client=victim.fingerprint, format=2),
        branch.records(plain(new), said, client=victim.fingerprint, format=2),
    ])  # fmt: skip
    seen = Recorder()
    tiers.receive("hq", seen)
    assert not possesses(tiers, "hq", name, new)
    assert not possesses(tiers, "hq", name, SECRET)
    assert (named(tiers, "hq", name).via, named(tiers, "hq", name).kind) == (victim.via, victim.kind)
    assert len(seen.errors) == 1, seen.errors


def test_what_a_tier_attests_and_nobody_delivered_is_possessed_by_nobody(tiers: Tiers, branch: SenderForger) -> None:
    fingerprint = named(tiers, "hq", "b").fingerprint
    nowhere = os.urandom(500)
    branch.put_segments([branch.records(branch.attests(fingerprint, nowhere, SECRET), client=fingerprint, format=2)])
    tiers.receive("hq")
    assert not possesses(tiers, "hq", "b", nowhere)
    assert possesses(tiers, "hq", "b", SECRET)


def test_an_attestation_of_one_client_says_nothing_of_another(tiers: Tiers, branch: SenderForger) -> None:
    a, b = (named(tiers, "hq", name).fingerprint for name in "ab")
    branch.put_segments([branch.records(branch.attests(a, SECRET), client=b, format=2)])
    assert tiers.receive("hq").rejected == 1
    assert not possesses(tiers, "hq", "b", SECRET)


def test_receipts_about_clients_that_a_storage_exchanges_are_refused(tiers: Tiers) -> None:
    answers = [
        tiers.base / "hq/inbox" / answer_name(folder_id(named(tiers, "hq", name).key, "g"), Answer.RECEIPT)
        for name in "ab"
    ]
    answers[1].parent.mkdir(exist_ok=True)
    answers[1].write_bytes(answers[0].read_bytes())
    seen = Recorder()
    tiers.send("branch", seen)
    assert any("in the place of" in str(error) for error in seen.errors), seen.errors
