"""Which version is adopted: the newest of this machine, and never another client's by accident."""

from __future__ import annotations

import pytest

from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.identity.keys import KemSuite, SealingKey, SigningKey
from cdr_plugin.identity.register import Client, ClientState
from cdr_plugin.model.versions import Snapshot
from cdr_plugin.top.choosing import Chooser, Wanted
from cdr_plugin.top.pins import PIN_HOST, PIN_TAG, adoption_path
from cdr_plugin.top.version_tags import VersionTag

LATEST = Wanted()
SEALING = SealingKey(KemSuite.X25519, b"\x06" * 32).public


def client(number: int, name: str, host: str = "", alias: str = "") -> Client:
    key = SigningKey(bytes((number,)) * 32).public
    return Client("g", name, alias, key, SEALING, {"host": host} if host else {}, ClientState.APPROVED, 1)


ALICE = client(1, "alice", host="alice-laptop")
BOB = client(2, "bob", host="bobs-pc", alias="bob-desk")


def version(id_: str, host: str, day: int = 1, *, of: Client | None = None, path: str = "/home") -> StoredVersion:
    tags = [str(VersionTag.of(of.fingerprint, 3, b"h" * 32))] if of else []
    time = f"2026-01-{day:02}T00:00:00Z"
    return StoredVersion(id_ * 64, Snapshot(time=time, tree="0" * 64, paths=[path], hostname=host, tags=tags))


def chosen(*versions: StoredVersion, wanted: Wanted = LATEST, others: list[Client] | None = None) -> str:
    return Chooser(ALICE, [ALICE, BOB] if others is None else others, wanted).choose(versions).id[0]


def refused(*versions: StoredVersion, wanted: Wanted = LATEST, others: list[Client] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        chosen(*versions, wanted=wanted, others=others)
    return str(caught.value)


def test_the_newest_of_the_clients_names_is_taken_by_instant() -> None:
    later = StoredVersion(
        "c" * 64, Snapshot(time="2026-01-02T01:00:00+05:00", tree="0" * 64, paths=[], hostname="alice")
    )
    assert chosen(version("a", "alice", 1), version("b", "alice-laptop", 2), version("d", "other", 9), later) == "b"
    assert chosen(version("a", "alice", 1), later) == "c"


def test_a_host_that_is_merely_stated_does_not_count_when_it_is_another_clients() -> None:
    liar = client(3, "mallory", host="alice-laptop")
    assert "no version of host alice fits" in refused(version("a", "alice-laptop"), others=[ALICE, liar])
    assert chosen(version("a", "alice-laptop"), wanted=Wanted(host="alice-laptop"), others=[ALICE, liar]) == "a"
    named = client(3, "alice-laptop")
    text = refused(version("a", "alice-laptop"), wanted=Wanted(host="alice-laptop"), others=[ALICE, named])
    assert f"is client alice-laptop ({named.fingerprint.hex()[:16]})" in text


@pytest.mark.parametrize("host", ["bob", "bob-desk"])
def test_what_bears_the_name_of_another_client_is_refused_unless_it_is_the_same_machine(host: str) -> None:
    found = version("a", host)
    for wanted in (Wanted(host=host), Wanted(version="aaaa")):
        assert "is client bob" in refused(found, wanted=wanted)
    assert chosen(found, wanted=Wanted(host=host, former=BOB.fingerprint.hex()[:16])) == "a"


def test_versions_of_cdr_are_the_clients_own_or_its_former_identitys() -> None:
    own, foreign = version("a", "renamed", of=ALICE), version("b", "alice", 9, of=BOB)
    assert chosen(own, foreign) == "a"
    assert "nothing crosses" in refused(foreign)
    assert "nothing crosses" in refused(foreign, wanted=Wanted(version="bbbb"))
    assert chosen(own, foreign, wanted=Wanted(former=BOB.fingerprint.hex())) == "b"
    gone = client(7, "gone")  # not in the register any more
    assert chosen(version("c", "x", of=gone), wanted=Wanted(former=gone.fingerprint.hex()[:20])) == "c"
    assert "nothing crosses" in refused(version("c", "alice", of=gone), wanted=Wanted(version="cccc"))


def test_pins_are_no_versions() -> None:
    path = adoption_path(ALICE.fingerprint)
    snapshot = Snapshot(time="1970-01-01T00:00:00Z", tree="0" * 64, paths=[path], hostname=PIN_HOST, tags=[PIN_TAG])
    pin = StoredVersion("a" * 64, snapshot)
    assert "pin" in refused(pin, wanted=Wanted(version="aaaa"))
    assert "no version of host" in refused(pin, wanted=Wanted(host=PIN_HOST))


def test_a_named_version_may_be_of_any_host_that_is_nobodys_but_must_be_what_else_was_asked_for() -> None:
    found = version("a", "old-name")
    assert chosen(found, wanted=Wanted(version="aaaaaa")) == "a"
    assert "its host is old-name" in refused(found, wanted=Wanted(version="aaaa", host="alice"))
    assert "/etc is not among its paths" in refused(found, wanted=Wanted(version="aaaa", paths=["/etc"]))
    for bad in ("aaa", "bbbb", ""):
        assert "see 'cdr snapshots'" in refused(found, wanted=Wanted(version=bad))
    assert "more than one" in refused(
        found, StoredVersion("a" * 63 + "b", found.snapshot), wanted=Wanted(version="aaaa")
    )


def test_paths_choose_among_versions() -> None:
    versions = version("a", "alice", 1, path="/etc"), version("b", "alice", 2)
    assert chosen(*versions, wanted=Wanted(paths=["/etc"])) == "a"
    assert "choose with" in refused(*versions, wanted=Wanted(paths=["/var"]))


@pytest.mark.parametrize("former", ["abc", "0" * 15, "G" * 16, "0" * 65, "A" * 16])
def test_a_former_identity_is_named_unmistakably(former: str) -> None:
    assert "at least 16 hex digits" in refused(version("a", "alice"), wanted=Wanted(former=former))
