"""Unknown senders: kept by a header, reported, left alone, and let in or refused by the operator."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import AuthenticationError, UserError
from cdr_plugin.identity.keys import SealingKey, SigningKey
from cdr_plugin.identity.register import ClientState, Register
from cdr_plugin.identity.strangers import MAX_STRANGERS, Stranger
from cdr_plugin.parcel.naming import folder_id, segment_name
from cdr_plugin.top import few, strangers
from cdr_plugin.top.inbox import Inboxes
from cdr_plugin.top.intake import Arrival
from cdr_plugin.top.strangers import refuse
from cdr_plugin.top.tier import TopTier
from tests.support.chain import Chain, Recorder
from tests.support.forger import Forger
from tests.support.version_tags import tags_of


@pytest.fixture
def alice(chain: Chain, tmp_path: Path) -> ClientTier:
    """A client whose ticket was withdrawn before it came, with a version on its way."""
    client = chain.new_client("alice")
    (ticket,) = chain.top.register.tickets()
    chain.top.register.withdraw_ticket(ticket.id)
    source = tmp_path / "source"
    source.mkdir()
    (source / "letter").write_text("Dear all")
    chain.backup(client, source)
    chain.send(client)
    return client


def objects(chain: Chain, client: ClientTier) -> list[str]:
    folder = chain.inbox / "clients" / folder_id(client.identity.signing.public, chain.group)
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def known(chain: Chain) -> list[Stranger]:
    return chain.top.register.strangers.all(chain.group)


def test_unknown_senders_in_any_number_are_listed_in_part_and_keep_nobody_from_enrolling(
    chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Forger(chain, "b")
    monkeypatch.setattr("cdr_plugin.top.laid_out.MAX_UNKNOWN", 10)
    for _ in range(50):
        client.put(segment_name(os.urandom(16).hex(), os.urandom(16), 0), b"")
    with chain.top.plugins.transport(str(chain.inbox)) as inbox:
        assert sum(info.size == 0 for info in chain.top.view(inbox).list("clients")) == 10
    client.send_files(f=b"one")
    late, source = chain.new_client("late"), tmp_path / "late"
    source.mkdir()
    for at in range(4):
        (source / f"{at}").write_bytes(os.urandom(5_000_000))
    chain.backup(late, source)
    chain.send(late)
    seen = Recorder()
    result = chain.receive(seen)
    assert (result.versions_stored, result.blobs_missing) == (2, 0)
    assert "late" in {known.name for known in chain.top.register.clients()}
    assert 10 <= len(seen.errors) <= 20


def test_who_is_refused_is_kept_with_its_request_and_all_that_it_sent_stays(chain: Chain, alice: ClientTier) -> None:
    before = objects(chain, alice)
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 0
    (stranger,) = known(chain)
    assert (stranger.key, stranger.name, stranger.segments) == (alice.identity.signing.public, "alice", 1)
    assert stranger.sealing == alice.identity.sealing_key(chain.group).public
    assert "used up" in stranger.why
    assert objects(chain, alice) == before
    assert any("unknown sender; left where it is, see 'cdr clients'" in line for line in seen.errors)
    assert not list((chain.inbox / "answers").rglob("receipt"))


def test_approval_lets_everything_in_and_is_asked_once(chain: Chain, alice: ClientTier) -> None:
    chain.receive()
    chain.top.register.admit(known(chain)[0], "alice", now_s=1)
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 1
    assert seen.errors == [] and known(chain) == []
    chain.send(alice)
    assert alice.state.versions()[-1].state == "committed"


def test_a_sender_without_a_request_is_known_by_its_header_and_cannot_be_approved_yet(
    chain: Chain, alice: ClientTier
) -> None:
    for path in (chain.inbox / "clients").rglob("enrol-*"):
        path.unlink()
    chain.receive()
    (stranger,) = known(chain)
    assert (stranger.key, stranger.sealing, stranger.name) == (alice.identity.signing.public, None, "")
    with pytest.raises(UserError, match="its request to be known has not come, without which nothing"):
        chain.top.register.admit(stranger, "alice", now_s=1)


def test_a_segment_of_somebody_else_makes_no_folder_his(chain: Chain) -> None:
    mallory = Forger(chain)
    parcel = mallory.parcel(key=SigningKey.generate())
    place = chain.inbox / segment_name("f" * 32, parcel.id, 0)
    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(parcel.seal(0, b"x")))
    seen = Recorder()
    chain.receive(seen)
    assert known(chain) == [] and any("who has another folder" in line for line in seen.errors)


def test_refusing_deletes_what_waits_and_nothing_of_others(chain: Chain, alice: ClientTier) -> None:
    other = Forger(chain)
    other.send_files(f=b"one")
    kept = sorted(chain.inbox.rglob(f"clients/{other.folder}/**/*"))
    chain.top.register.strangers.put(
        Stranger("g", folder_id(alice.identity.signing.public, "g"), alice.identity.signing.public, "")
    )
    assert refuse(chain.top, known(chain)[0], Recorder()) == 3  # head, request, segment
    assert objects(chain, alice) == [] and known(chain) == []
    assert sorted(chain.inbox.rglob(f"clients/{other.folder}/**/*")) == kept


def test_whose_folder_is_gone_is_forgotten(chain: Chain, alice: ClientTier) -> None:
    chain.receive()
    refuse_by_hand = chain.inbox / "clients" / folder_id(alice.identity.signing.public, chain.group)
    for path in [path for path in refuse_by_hand.rglob("*") if path.is_file()]:
        path.unlink()
    chain.receive()
    assert known(chain) == []


@pytest.mark.parametrize("limit", ["inbox.MAX_ENROLMENTS", "laid_out.MAX_UNKNOWN"])
def test_who_is_not_shown_behind_a_flood_is_not_forgotten(
    chain: Chain, alice: ClientTier, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    folder = chain.inbox / "clients" / folder_id(alice.identity.signing.public, chain.group)
    is_request = limit == "inbox.MAX_ENROLMENTS"
    for path in folder.rglob("*"):
        if path.is_file() and path.name.startswith("enrol-") is not is_request:
            path.unlink()
    chain.receive()
    monkeypatch.setattr(f"cdr_plugin.top.{limit}", 1)
    flood = Forger(chain, "b")
    for at in range(30):
        other = os.urandom(16).hex()
        flood.put(f"clients/{other}/enrol-{at:016x}" if is_request else segment_name(other, os.urandom(16), 0), b"")
    for _ in range(5):
        chain.receive()
        assert alice.identity.signing.public in {stranger.key for stranger in known(chain)}


def test_a_flood_of_folders_costs_a_bounded_number_of_headers_lines_and_rows(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Forger(chain)
    for _ in range(200):
        place = chain.inbox / segment_name(os.urandom(16).hex(), os.urandom(16), 0)
        place.parent.mkdir(parents=True)
        place.write_bytes(b"\1\1\2\0" + bytes(2000))
    opened: list[str] = []
    keep = strangers._keep

    def counted(top: TopTier, inboxes: Inboxes, folder: str, arrivals: Sequence[Arrival]) -> str:
        opened.append(folder)
        return keep(top, inboxes, folder, arrivals)

    monkeypatch.setattr(strangers, "_keep", counted)
    seen = Recorder()
    other.send_files(f=b"one")
    assert chain.receive(seen).versions_stored == 1
    assert len(opened) <= 2 * strangers.MAX_OPENED and len(seen.errors) <= 2 * (few.MAX_NAMED + 1)
    register = chain.top.register
    keys = [SigningKey.generate().public for _ in range(MAX_STRANGERS + 1)]
    assert [register.strangers.put(Stranger("g", folder_id(key, "g"), key, "")) for key in keys][-2:] == [True, False]


# --- new keys ---


def stranger_of(register: Register, name: str = "x", group: str = "g") -> tuple[Stranger, SigningKey]:
    key = SigningKey.generate()
    found = Stranger(group, folder_id(key.public, group), key.public, "", name, SealingKey.generate().public)
    register.strangers.put(found)
    return found, key


def test_new_keys_keep_numbers_versions_and_possession_and_end_the_old_key(chain: Chain, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "letter").write_text("Dear all")
    client = chain.new_client()
    chain.backup(client, source)
    chain.deliver(client)
    old = client.identity.signing.public
    first = chain.top.register.accept(old, "g")
    client.state.close()
    for folder in (client.state_folder, client.identity_folder):
        folder.rename(folder.with_name(f"{folder.name}-lost"))

    again = chain.new_client()
    chain.send(again)
    chain.receive()  # the name is taken
    found = chain.top.register.rekey(first.fingerprint, "g", known(chain)[0])
    assert (found.fingerprint, found.key) == (first.fingerprint, again.identity.signing.public)
    with pytest.raises(AuthenticationError, match="is not known"):
        chain.top.register.accept(old, "g")
    chain.receive()
    chain.send(again)
    (source / "letter").write_text("Dear all, again")
    chain.backup(again, source)
    chain.deliver(again)
    versions = chain.top.state.client(first.fingerprint).versions()
    assert [(version.number, version.state) for version in versions] == [(1, "committed"), (2, "committed")]
    assert versions[1].previous == versions[0].hash
    stored = chain.top.open_repository().versions()
    hosts = [(v.snapshot.hostname, len(list(tags_of(v, first.fingerprint)))) for v in stored]
    assert hosts == [("alice", 1), ("alice", 1)]
    again.state.close()


def test_a_replaced_key_cannot_come_back_with_a_ticket(chain: Chain) -> None:
    client = chain.new_client()
    chain.send(client)
    chain.receive()
    chain.send(client)
    register = chain.top.register
    (before,) = register.clients()
    new, _ = stranger_of(register)
    register.rekey(before.fingerprint, "g", new)
    client.enroll(chain.top.issue_ticket(), {})
    chain.send(client)
    seen = Recorder()
    chain.receive(seen)
    assert any("this key of it was replaced" in line for line in seen.errors), (seen.errors, seen.notes)
    assert [(c.fingerprint, c.key) for c in register.clients()] == [(before.fingerprint, new.key)]
    client.state.close()


def test_a_key_that_is_somebodys_is_no_new_key(chain: Chain) -> None:
    first, second = Forger(chain, "first"), Forger(chain, "second")
    register = chain.top.register
    taken = Stranger("g", second.folder, second.key.public, "", "x", SealingKey.generate().public)
    with pytest.raises(UserError, match="is, or was, one of a client"):
        register.rekey(first.key.public.fingerprint, "g", taken)


def test_a_moved_client_stays_in_its_old_group_s_register_and_sends_no_more(chain: Chain) -> None:
    client = Forger(chain)
    client.send_files(f=b"one")
    chain.receive()
    chain.top.register.move(client.key.public.fingerprint, "g", "other")
    (found,) = chain.top.register.clients("g")
    assert (found.state, found.moved_to) == (ClientState.MOVED, "other")
    client.send_files(f=b"two")
    seen = Recorder()
    assert chain.receive(seen).versions_stored == 0
    assert any("moved; its segments are left where they are" in note for note in seen.notes)
    chain.top.register.set_state(found.fingerprint, "g", ClientState.APPROVED)
    assert chain.top.register.clients("g")[0].moved_to == ""
    assert chain.receive().versions_stored == 1
