"""Tickets, enrolment and the register, as two tiers use them."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import (
    AuthenticationError,
    ConfigError,
    FormatError,
    IntegrityError,
    NotEnrolledError,
    RemoteError,
    StorageFullError,
    UserError,
)
from cdr_plugin.identity.keys import KemSuite, SealingKey, SigningKey
from cdr_plugin.identity.register import _SCHEMAS, Client, ClientState, Register, SenderKind
from cdr_plugin.identity.ticket import (
    Enrolment,
    Ticket,
    TierKey,
    new_secret,
    open_enrolment,
    read_ticket,
    request_enrolment,
    write_ticket,
)

TIER = SigningKey(b"\x01" * 32)
TIER_SEALING = SealingKey(KemSuite.X25519, b"\x02" * 32)
EXPIRES_S = 1000


def ticket_of(group: str = "legal", secret: bytes = b"\x07" * 32, uses: int = 1) -> Ticket:
    return Ticket(
        group=group,
        issuer=TIER.public,
        secret=secret,
        uses=uses,
        expires_s=EXPIRES_S,
        tiers=(TierKey(name="hq", key=TIER.public.raw),),
        sealing=TIER_SEALING.public,
        chunker={"name": "rabin", "polynomial": "0x3DA3358B4DC173"},
        inboxes=("file:/srv/inbox",),
        abilities=("zstd/1",),
    )


@dataclass
class Applicant:
    seed: int

    @property
    def signing(self) -> SigningKey:
        return SigningKey(bytes((self.seed,)) * 32)

    @property
    def sealing(self) -> SealingKey:
        return SealingKey(KemSuite.X25519, bytes((self.seed,)) * 32)

    def asks(self, ticket: Ticket, name: str, group: str | None = None) -> Enrolment:
        data = request_enrolment(
            ticket, self.signing, self.sealing.public, name=name, facts={"host": name, "site": "berlin"}, issued_s=5
        )
        return open_enrolment(data, keys=[TIER_SEALING], group=group or ticket.group, tier=TIER.public, now_s=10)


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    made = Register(tmp_path / "register.sqlite")
    yield made
    made.close()


def issue(register: Register, ticket: Ticket) -> Ticket:
    register.add_ticket(ticket.secret, group=ticket.group, uses=ticket.uses, issued_s=1, expires_s=ticket.expires_s)
    return ticket


# --- tickets


def test_a_ticket_survives_its_text_form_and_a_mail_program() -> None:
    text = write_ticket(ticket_of(), TIER, issued_s=1)
    assert read_ticket(text, now_s=2) == ticket_of()
    assert read_ticket("\r\n" + text.replace("\n", "  \r\n") + "\n\n", now_s=2) == ticket_of()
    assert "Group: legal" in text and text.startswith("-----BEGIN CDR TICKET-----\n")


def test_the_secret_of_a_ticket_is_in_no_repr() -> None:
    assert repr(ticket_of().secret) not in repr(ticket_of())


def test_an_expired_ticket_is_refused() -> None:
    text = write_ticket(ticket_of(), TIER, issued_s=1)
    with pytest.raises(AuthenticationError, match="expired"):
        read_ticket(text, now_s=EXPIRES_S + 1)


def test_every_changed_character_of_a_ticket_is_noticed() -> None:
    text = write_ticket(ticket_of(), TIER, issued_s=1)
    for position, char in enumerate(text.rstrip()):
        if char == "\n":
            continue
        bad = text[:position] + ("B" if char != "B" else "C") + text[position + 1 :]
        with pytest.raises(IntegrityError):
            read_ticket(bad, now_s=2)


@pytest.mark.parametrize("text", ["", "hello", "-----BEGIN CDR TICKET-----\n-----END CDR TICKET-----", "A" * 100_000])
def test_text_that_is_no_ticket_is_refused(text: str) -> None:
    with pytest.raises(FormatError, match="ticket"):
        read_ticket(text, now_s=2)


@given(st.text(max_size=300))
def test_random_text_is_never_a_ticket(text: str) -> None:
    with pytest.raises(FormatError):
        read_ticket(f"-----BEGIN CDR TICKET-----\nGroup: g\n{text}\n-----END CDR TICKET-----", now_s=2)


def test_a_ticket_is_signed_by_its_issuer_or_not_at_all() -> None:
    with pytest.raises(UserError, match="issuer"):
        write_ticket(ticket_of(), SigningKey.generate(), issued_s=1)
    with pytest.raises(UserError, match="group name"):
        write_ticket(ticket_of(group=".."), TIER, issued_s=1)


# --- requests


def test_a_request_carries_keys_name_and_facts_to_its_tier() -> None:
    request = Applicant(9).asks(ticket_of(), "alice")
    assert (request.name, request.group, request.facts["site"]) == ("alice", "legal", "berlin")
    assert request.client == SigningKey(b"\x09" * 32).public
    assert request.secret == ticket_of().secret and request.secret.hex() not in repr(request)


def test_a_request_for_another_tier_or_group_is_refused() -> None:
    data = request_enrolment(
        ticket_of(),
        SigningKey.generate(),
        SealingKey.generate(KemSuite.X25519).public,
        name="a",
        facts={},
        issued_s=5,
    )
    other = SigningKey.generate()
    with pytest.raises(AuthenticationError, match="addressed to"):
        open_enrolment(data, keys=[TIER_SEALING], group="legal", tier=other.public, now_s=10)
    with pytest.raises(AuthenticationError, match="opens it"):
        open_enrolment(data, keys=[TIER_SEALING], group="sales", tier=TIER.public, now_s=10)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "x" * 65])
def test_a_name_that_could_leave_a_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="client name"):
        Applicant(9).asks(ticket_of(), name)


# --- the register


def test_a_redeemed_ticket_makes_a_client_that_is_accepted(register: Register) -> None:
    request = Applicant(9).asks(issue(register, ticket_of()), "alice")
    client = register.redeem(request, now_s=50)
    assert register.accept(request.client, "legal") == client
    assert (client.name, client.hostname, client.enrolled_s) == ("alice", "alice", 50)
    assert client.sealing == request.sealing and client.facts == {"host": "alice", "site": "berlin"}
    assert register.clients("legal") == [client] and register.clients("sales") == []


def test_redeeming_again_changes_nothing_also_after_the_ticket_is_used_up_and_expired(
    register: Register,
) -> None:
    request = Applicant(9).asks(issue(register, ticket_of()), "alice")
    first = register.redeem(request, now_s=50)
    assert register.redeem(request, now_s=EXPIRES_S + 50) == first


def test_a_ticket_serves_as_many_clients_as_it_says(register: Register) -> None:
    ticket = issue(register, ticket_of(uses=2))
    for seed in (9, 10):
        register.redeem(Applicant(seed).asks(ticket, f"c{seed}"), now_s=50)
    with pytest.raises(AuthenticationError, match="used up"):
        register.redeem(Applicant(11).asks(ticket, "c11"), now_s=50)
    assert [client.name for client in register.clients()] == ["c10", "c9"]


def test_a_ticket_that_is_unknown_expired_withdrawn_or_of_another_group_is_refused(
    register: Register,
) -> None:
    with pytest.raises(AuthenticationError, match="not one of ours"):
        register.redeem(Applicant(9).asks(ticket_of(secret=new_secret()), "alice"), now_s=50)
    ticket = issue(register, ticket_of())
    with pytest.raises(AuthenticationError, match="not one of ours"):
        register.redeem(Applicant(9).asks(replace(ticket, group="sales"), "alice"), now_s=50)
    with pytest.raises(AuthenticationError, match="expired"):
        register.redeem(Applicant(9).asks(ticket, "alice"), now_s=EXPIRES_S + 1)
    register.withdraw_ticket(ticket.id)
    with pytest.raises(AuthenticationError, match="used up"):
        register.redeem(Applicant(9).asks(ticket, "alice"), now_s=50)
    with pytest.raises(NotEnrolledError):
        register.withdraw_ticket(b"unknown!")
    assert register.clients() == []


def test_a_taken_name_is_refused_and_costs_no_use_of_the_ticket(register: Register) -> None:
    ticket = issue(register, ticket_of(uses=2))
    register.redeem(Applicant(9).asks(ticket, "alice"), now_s=50)
    with pytest.raises(UserError, match="'alice' is taken in group legal"):
        register.redeem(Applicant(10).asks(ticket, "alice"), now_s=50)
    register.redeem(Applicant(10).asks(ticket, "bob"), now_s=50)


def test_the_same_name_may_exist_in_two_groups(register: Register) -> None:
    for group, secret in (("legal", b"a" * 32), ("sales", b"b" * 32)):
        register.redeem(Applicant(9).asks(issue(register, ticket_of(group, secret)), "alice"), now_s=50)
    assert [(c.group, c.name) for c in register.clients()] == [("legal", "alice"), ("sales", "alice")]


def test_aliases_and_names_share_one_name_space(register: Register) -> None:
    ticket = issue(register, ticket_of(uses=3))
    alice, bob = (register.redeem(Applicant(s).asks(ticket, n), now_s=50) for s, n in ((9, "alice"), (10, "bob")))
    register.set_alias(alice.fingerprint, "legal", "desk1")
    assert register.client(alice.fingerprint, "legal").hostname == "desk1"
    for taken in ("desk1", "alice"):
        with pytest.raises(UserError, match="taken"):
            register.set_alias(bob.fingerprint, "legal", taken)
    with pytest.raises(UserError, match="taken"):
        register.redeem(Applicant(11).asks(ticket, "desk1"), now_s=50)
    with pytest.raises(UserError, match="client name"):
        register.set_alias(bob.fingerprint, "legal", "a/b")
    register.set_alias(alice.fingerprint, "legal", "")
    assert register.client(alice.fingerprint, "legal").hostname == "alice"


def test_unknown_and_revoked_senders_are_not_accepted_until_approved_again(register: Register) -> None:
    stranger = SigningKey.generate().public
    with pytest.raises(AuthenticationError, match="not known in group legal"):
        register.accept(stranger, "legal")
    request = Applicant(9).asks(issue(register, ticket_of(uses=9)), "alice")
    client = register.redeem(request, now_s=50)
    with pytest.raises(AuthenticationError, match="not known in group sales"):
        register.accept(client.key, "sales")
    register.set_state(client.fingerprint, "legal", ClientState.REVOKED)
    with pytest.raises(AuthenticationError, match="revoked"):
        register.accept(client.key, "legal")
    with pytest.raises(AuthenticationError, match="revoked"):
        register.redeem(request, now_s=51)
    register.set_state(client.fingerprint, "legal", ClientState.APPROVED)
    assert register.accept(client.key, "legal") == client
    with pytest.raises(NotEnrolledError):
        register.set_state(stranger.fingerprint, "legal", ClientState.REVOKED)


def test_a_client_may_renew_its_sealing_key_with_a_new_ticket(register: Register) -> None:
    register.redeem(Applicant(9).asks(issue(register, ticket_of()), "alice"), now_s=50)
    second = issue(register, ticket_of(secret=new_secret()))
    renewed = replace(Applicant(9).asks(second, "alice"), sealing=SealingKey(KemSuite.X25519, b"\x55" * 32).public)
    assert register.redeem(renewed, now_s=60).sealing == renewed.sealing
    assert len(register.clients()) == 1


def test_the_register_is_the_same_after_opening_it_again(register: Register, tmp_path: Path) -> None:
    client = register.redeem(Applicant(9).asks(issue(register, ticket_of()), "alice"), now_s=50)
    again = Register(tmp_path / "register.sqlite")
    assert again.clients() == [client]
    again.close()
    assert (tmp_path / "register.sqlite").stat().st_mode & 0o777 == 0o600


def test_the_register_keeps_no_secret(register: Register, tmp_path: Path) -> None:
    ticket = issue(register, ticket_of(secret=new_secret()))
    register.redeem(Applicant(9).asks(ticket, "alice"), now_s=50)
    register.close()
    for path in tmp_path.iterdir():
        assert ticket.secret not in path.read_bytes()


def test_a_file_that_is_no_register_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"not a database, certainly not" * 100)
    with pytest.raises(ConfigError, match="cannot be opened"):
        Register(tmp_path / "x")


def test_threads_racing_for_a_single_use_get_it_once(register: Register) -> None:
    ticket = issue(register, ticket_of())
    requests = [Applicant(seed).asks(ticket, f"c{seed}") for seed in range(20, 28)]
    won: list[str] = []
    lost: list[AuthenticationError] = []

    def run(request: Enrolment) -> Callable[[], None]:
        def redeem() -> None:
            try:
                won.append(register.redeem(request, now_s=50).name)
            except AuthenticationError as error:
                lost.append(error)

        return redeem

    threads = [Thread(target=run(request)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)


def test_a_full_or_broken_register_is_one_of_our_errors_and_changes_nothing(register: Register) -> None:
    ticket = issue(register, ticket_of())
    with pytest.raises(RemoteError, match="register"):
        issue(register, ticket)
    register._db.execute("PRAGMA max_page_count = 1")
    big = replace(Applicant(9).asks(ticket, "alice"), facts={str(i): "x" * 255 for i in range(64)})
    with pytest.raises(StorageFullError, match="full"):
        register.redeem(big, now_s=50)
    assert register.clients() == []
    register._db.execute("PRAGMA max_page_count = 1000000")
    assert register.redeem(big, now_s=50).name == "alice"


# --- tiers that speak for others ---


def _introduced(seed: int, name: str, via: bytes) -> Client:
    signing, sealing = Applicant(seed).signing, Applicant(seed).sealing
    return Client("legal", name, "", signing.public, sealing.public, {}, ClientState.APPROVED, 5, via=via)


def test_the_ticket_decides_who_is_a_tier(register: Register) -> None:
    ticket = ticket_of(secret=new_secret())
    register.add_ticket(ticket.secret, group="legal", uses=1, issued_s=1, expires_s=EXPIRES_S, kind=SenderKind.TIER)
    assert register.redeem(Applicant(3).asks(ticket, "branch"), now_s=50).kind is SenderKind.TIER


def test_an_introduced_client_keeps_what_the_operator_decided(register: Register) -> None:
    via = bytes(32)
    made = register.introduce(_introduced(21, "laptop", via))
    register.set_state(made.fingerprint, "legal", ClientState.REVOKED)
    register.set_alias(made.fingerprint, "legal", "pc7")
    again = register.introduce(_introduced(21, "renamed", via))
    assert (again.name, again.alias, again.state) == ("laptop", "pc7", ClientState.REVOKED)


def test_two_branches_may_each_have_a_client_of_one_name(register: Register) -> None:
    first = register.introduce(_introduced(21, "laptop", b"1" * 32))
    second = register.introduce(_introduced(22, "laptop", b"2" * 32))
    assert first.name == "laptop"
    assert second.name == f"laptop-{second.fingerprint.hex()[:8]}"


def test_nobody_is_introduced_by_a_tier_through_which_it_did_not_come(register: Register) -> None:
    register.introduce(_introduced(21, "laptop", b"1" * 32))
    with pytest.raises(AuthenticationError, match="did not come"):
        register.introduce(_introduced(21, "laptop", b"2" * 32))


def test_a_register_of_the_first_version_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(_SCHEMAS[0] + "PRAGMA user_version = 1;")
        applicant = Applicant(1)
        row = (
            applicant.signing.public.fingerprint, "legal", "alice", "", applicant.signing.public.raw,
            int(applicant.sealing.suite), applicant.sealing.public.raw, "{}", "approved", b"", 7,
        )  # fmt: skip
        db.execute(f"INSERT INTO clients VALUES ({', '.join('?' * 11)})", row)
        db.commit()
    register = Register(path)
    [client] = register.clients("legal")
    assert (client.name, client.kind, client.via) == ("alice", SenderKind.CLIENT, b"")
    register.close()
