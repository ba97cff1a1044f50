from pathlib import Path

import pytest

from cdr_local.plugin import LocalPlugin
from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import NotFoundError, RemoteError, StorageFullError
from cdr_plugin.transports.faults import Fault, FaultyTransport, Kind


@pytest.fixture
def inner(tmp_path: Path) -> Transport:
    return LocalPlugin().open(str(tmp_path / "storage"), {}, create=True)


def test_before_fails_without_doing(inner: Transport) -> None:
    with FaultyTransport(inner, [Fault(Kind.BEFORE, "put")]) as storage:
        with pytest.raises(RemoteError, match="a planned fault"):
            storage.put("a", b"x")
        with pytest.raises(NotFoundError):
            storage.stat("a")
        storage.put("a", b"x")


def test_after_does_and_fails(inner: Transport) -> None:
    full = StorageFullError("full")
    with FaultyTransport(inner, [Fault(Kind.AFTER, "put", error=full)]) as storage:
        with pytest.raises(StorageFullError):
            storage.put("a", b"x")
        assert storage.get("a") == b"x"


def test_a_torn_put_leaves_the_first_bytes(inner: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"012345")
    faults = [Fault(Kind.TORN, keep_bytes=2), Fault(Kind.TORN, "put_file", keep_bytes=3)]
    with FaultyTransport(inner, faults) as storage:
        assert list(storage.list()) == []  # a list cannot be torn; the fault waits
        with pytest.raises(RemoteError):
            storage.put("a", b"012345")
        with pytest.raises(RemoteError):
            storage.put_file("b", tmp_path / "file")
        assert (storage.get("a"), storage.get("b")) == (b"01", b"012")


def test_a_cut_strikes_inside_a_put_file_and_the_next_one_goes_on(tmp_path: Path) -> None:
    mib = 1024 * 1024
    (tmp_path / "file").write_bytes(bytes(3 * mib))
    inner = LocalPlugin().open(str(tmp_path / "storage"), {"links": False}, create=True)
    told: list[int] = []
    with FaultyTransport(inner, [Fault(Kind.CUT, keep_bytes=2 * mib)]) as storage:
        storage.put("other", b"x")  # only a put of a file can be cut; the fault waits
        with pytest.raises(RemoteError, match="a planned fault"):
            storage.put_file("a", tmp_path / "file", told.append)
        with pytest.raises(NotFoundError):
            storage.stat("a")
        assert storage.put_file("a", tmp_path / "file", told.append) == 2 * mib == sum(told) - mib


def test_a_cut_waits_for_a_put_of_that_many_bytes(inner: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"012345")
    with (
        pytest.raises(AssertionError, match="did not fire: CUT put_file"),
        FaultyTransport(inner, [Fault(Kind.CUT, "put_file", keep_bytes=3)]) as storage,
    ):
        assert storage.put_file("a", tmp_path / "file") == 0  # linked: no byte travels


def test_another_party_comes_in_between(inner: Transport) -> None:
    with FaultyTransport(inner) as storage:
        storage.put("a", b"x")
        storage.plan(Fault(Kind.DELAY, "get", meanwhile=lambda: inner.delete("a")))
        with pytest.raises(NotFoundError):
            storage.get("a")


def test_faults_strike_in_order_at_the_named_objects(inner: Transport) -> None:
    faults = [Fault(Kind.BEFORE, "delete", "b*", skip=1), Fault(Kind.BEFORE, "list"), Fault(Kind.BEFORE)]
    with FaultyTransport(inner, faults) as storage:
        storage.delete("a")
        storage.delete("b1")
        storage.delete("a")
        list(storage.list())
        with pytest.raises(RemoteError):
            storage.delete("b2")
        storage.delete("b3")
        with pytest.raises(RemoteError):
            storage.list()
        with pytest.raises(RemoteError):
            storage.free_space()
        assert list(storage.list()) == list[ObjectInfo]()


def test_a_planned_fault_that_did_not_fire_is_told(inner: Transport) -> None:
    with (
        pytest.raises(AssertionError, match=r"did not fire: TORN put a\* \(skip 2\)"),
        FaultyTransport(inner, [Fault(Kind.TORN, "put", "a*", skip=2)]) as storage,
    ):
        storage.put("a", b"x")


def test_a_failing_test_keeps_its_own_failure(inner: Transport) -> None:
    with pytest.raises(ZeroDivisionError), FaultyTransport(inner, [Fault(Kind.BEFORE)]):
        raise ZeroDivisionError
