"""What a pass costs follows what is new, not how many clients, versions and snapshots there are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cdr_local.transport import LocalTransport
from cdr_plugin.contracts import ObjectInfo
from cdr_plugin.parcel.naming import head_name
from cdr_plugin.top.care_state import CareState
from cdr_plugin.top.policy import set_policy
from cdr_plugin.top.version_tags import VersionTag
from cdr_plugin.unchanged import REREAD_S
from tests.support.chain import Chain
from tests.support.crowd import add_crowd, statements
from tests.support.forger import Forger, restic


def new_pass(chain: Chain) -> None:
    """As another process makes it: nothing is in memory."""
    chain.top.close()
    plugins = chain.top.plugins
    chain.top = chain.new_top()
    chain.top.plugins = plugins
    chain.receive()


@pytest.fixture
def client(chain: Chain) -> Forger:
    forger = Forger(chain)
    forger.send_files(f=b"one")
    chain.receive()
    return forger


@pytest.fixture
def gets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the objects that are read in storages."""
    found: list[str] = []
    get = LocalTransport.get

    def counted(self: LocalTransport, name: str, offset: int = 0, length: int | None = None) -> bytes:
        found.append(name)
        return get(self, name, offset, length)

    monkeypatch.setattr(LocalTransport, "get", counted)
    return found


def settled(chain: Chain, clients: int) -> None:
    """A crowd that has been told all that is to be said."""
    add_crowd(chain.top, clients)
    add_crowd(chain.top, clients, via=bytes(32))
    chain.top.state.put({"pass": "called for"})
    new_pass(chain)
    new_pass(chain)


def asked_in_a_pass(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> int:
    with statements(monkeypatch) as found:
        new_pass(chain)
    return len(found)


def test_a_pass_asks_the_state_as_much_for_many_clients_as_for_few(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_policy(chain.top, "")
    with closing(CareState(chain.top.state_folder)):  # something has been checked
        pass

    def asked(data: bytes) -> int:
        client.parcels.clear()  # those that are answered
        client.send_files(f=data)
        return asked_in_a_pass(chain, monkeypatch)

    settled(chain, 2)
    few = asked(b"two")
    settled(chain, 20)
    assert asked(b"three") == few


def test_a_pass_without_work_asks_the_state_as_much_for_many_clients_as_for_few(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(chain, 2)
    few = asked_in_a_pass(chain, monkeypatch)
    settled(chain, 20)
    assert asked_in_a_pass(chain, monkeypatch) == few


def test_a_pass_reads_the_snapshots_that_are_new_and_the_tags_of_who_sends(
    chain: Chain, client: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(chain, 20)
    read, parsed = counted(monkeypatch, "cdr_restic.repository._load_snapshot"), []
    parse = VersionTag.parse
    monkeypatch.setattr(VersionTag, "parse", lambda tag: parsed.append(tag) or parse(tag))
    client.send_files(f=b"two")
    new_pass(chain)
    assert read == []
    assert {tag.split(":")[1] for tag in parsed} == {VersionTag.owner(client.key.public.fingerprint)}
    client.send_files(f=b"three")
    new_pass(chain)
    assert len(read) == 1  # the second version, which the pass before wrote


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[object]:
    """Calls of a function of two arguments, by the second one."""
    module, function = name.rsplit(".", 1)
    found: list[object] = []
    inner: Callable[[object, object], object] = getattr(__import__(module, fromlist=[function]), function)

    def called(one: object, other: object) -> object:
        found.append(other)
        return inner(one, other)

    monkeypatch.setattr(name, called)
    return found


def test_snapshots_that_restic_removes_and_adds_are_seen_by_the_next_pass(chain: Chain, client: Forger) -> None:
    """Those that are remembered are looked up by what is there now."""
    settled(chain, 2)
    client.send_files(f=b"two")
    new_pass(chain)
    first, second = (client.version(number).snapshot for number in (1, 2))
    restic(chain, "forget", first)
    restic(chain, "tag", "--add", "kept", second)
    client.send_files(f=b"three")
    new_pass(chain)
    found = chain.top.open_repository().versions()
    third = next(v for v in found if v.id == client.version(3).snapshot)
    (tagged,) = (v for v in found if "kept" in v.snapshot.tags)
    assert third.snapshot.parent == tagged.id and first not in {v.id for v in found}


def test_heads_that_have_been_answered_are_not_read_again(chain: Chain, client: Forger, gets: list[str]) -> None:
    other = Forger(chain, "other")
    new_pass(chain)
    new_pass(chain)
    heads = {head_name(client.folder), head_name(other.folder)}
    gets.clear()
    client.send_files(f=b"two")
    new_pass(chain)
    assert head_name(other.folder) not in gets and head_name(client.folder) in gets
    new_pass(chain)
    gets.clear()
    new_pass(chain)
    assert not heads & set(gets)


def test_a_head_is_read_when_it_was_replaced(chain: Chain, client: Forger, gets: list[str]) -> None:
    """It names a segment that never came: its sender is to hear of it, although nothing arrived."""
    new_pass(chain)
    new_pass(chain)
    gets.clear()
    (path,) = client.put_segments([client.records()])
    path.unlink()
    new_pass(chain)
    assert head_name(client.folder) in gets
    (parcel,) = (p for p in client.receipt().parcels if p.id == client.parcels[-1].id)
    assert list(parcel.missing) == [0]


def test_heads_are_read_each_time_where_the_storage_does_not_tell_what_was_replaced(
    chain: Chain, client: Forger, gets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_local.transport._info", lambda name, status: ObjectInfo(name, status.st_size))
    for _ in range(3):
        gets.clear()
        new_pass(chain)
        assert head_name(client.folder) in gets


def test_heads_are_all_read_once_an_hour(
    chain: Chain, client: Forger, gets: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    new_pass(chain)
    new_pass(chain)
    last = float(chain.top.state.get("all-read:heads") or 0)
    monkeypatch.setattr("cdr_plugin.top.receive.time.time", lambda: last + REREAD_S)
    gets.clear()
    new_pass(chain)
    assert head_name(client.folder) in gets


def test_a_state_of_the_program_before_goes_on(chain: Chain, client: Forger) -> None:
    """It has not the indexes that this one asks by."""
    settled(chain, 2)
    chain.top.state._db.connection.execute("DROP INDEX waiting")
    client.send_files(f=b"two")
    new_pass(chain)
    assert client.receipt().committed == 2


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"other"), lambda path: path.unlink()])
def test_what_is_remembered_of_snapshots_may_be_lost_or_damaged(
    chain: Chain, client: Forger, spoil: Callable[[Path], object]
) -> None:
    settled(chain, 2)
    (remembered,) = (chain.base / "top-state" / "repository").glob("*.snapshots")
    spoil(remembered)
    client.send_files(f=b"two")
    new_pass(chain)
    assert client.receipt().committed == 2
