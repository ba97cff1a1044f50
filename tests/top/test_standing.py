"""What the top tier says that it still has, after commits and after somebody removed snapshots."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from cdr_plugin.model.blobs import blob_id
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.standing import PresentVersion, Standing, read_standing
from tests.support.chain import Chain
from tests.support.forger import Forger, file_node, restic
from tests.support.version_tags import tags_of


@pytest.fixture
def client(chain: Chain) -> Forger:
    return Forger(chain)


def standing(client: Forger) -> Standing:
    return read_standing(
        (client.chain.inbox / answer_name(client.folder, Answer.STANDING)).read_bytes(),
        keys=client.tier.identity.sealing_keys(client.group),
        tier=client.tier.ticket.issuer,
        client=client.key.public,
        group=client.group,
        now_s=time.time(),
    )


def snapshots(chain: Chain, client: Forger) -> list[str]:
    """IDs of a client's versions."""
    versions = chain.top.open_repository().versions()
    return [version.id for version in versions if any(tags_of(version, client.key.public.fingerprint))]


def test_before_the_first_version_it_names_the_repository_alone(chain: Chain, client: Forger) -> None:
    found = standing(client)
    assert (found.repository, found.number, found.record, list(found.versions)) == (
        chain.top.open_repository().id, 0, b"", [],
    )  # fmt: skip


def test_it_names_the_newest_version_and_those_that_are_there(chain: Chain, client: Forger) -> None:
    signed = [client.send_files(f=word) for word in (b"one", b"two")]
    chain.receive()
    found = standing(client)
    assert (found.number, found.record) == (2, signed[1].hash)
    assert found.tree == blob_id(encode_tree([file_node("f", b"two")]))
    assert list(found.versions) == [PresentVersion(at, record.hash) for at, record in enumerate(signed, 1)]


def test_it_is_written_again_only_when_it_says_something_else_or_is_gone(chain: Chain, client: Forger) -> None:
    client.send_files(f=b"one")
    chain.receive()
    before = standing(client)
    client.put_head()
    chain.receive()
    assert standing(client) == before
    (chain.inbox / answer_name(client.folder, Answer.STANDING)).unlink()
    client.put_head()
    chain.receive()
    assert replace(standing(client), serial=before.serial) == before and standing(client).serial > before.serial


def test_what_stock_restic_removed_is_told_by_the_next_pass_to_every_client(chain: Chain, client: Forger) -> None:
    other = Forger(chain, "other")
    signed = [client.send_files(f=word) for word in (b"one", b"two")]
    other.send_files(f=b"one")
    chain.receive()
    restic(chain, "forget", *snapshots(chain, client))
    other.put_head()  # somebody else comes by
    chain.receive()
    assert (standing(client).number, list(standing(client).versions)) == (2, [])
    assert standing(client).record == signed[1].hash
    assert [version.number for version in standing(other).versions] == [1]


def test_more_versions_than_it_may_name_leave_out_the_oldest(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_plugin.top.standing.MAX_STANDING_VERSIONS", 2)
    for word in (b"one", b"two", b"three"):
        client.send_files(f=word)
    chain.receive()
    assert [version.number for version in standing(client).versions] == [2, 3]
