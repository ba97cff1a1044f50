"""A link that is limited, on a clock that only sleeping moves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_local.plugin import LocalPlugin
from cdr_plugin.conformance.transport import TransportConformance
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import NotConvenientError
from cdr_plugin.transports.throttle import BURST_S, ThrottledTransport, TokenBucket

KIB = 1024


class Clock:
    """Moves when somebody sleeps, or is told to pass."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.now_s += seconds

    def bucket(self, rate: int) -> TokenBucket:
        return TokenBucket(rate, self.clock, self.sleep)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def storage(tmp_path: Path) -> Transport:
    return LocalPlugin().open(str(tmp_path / "storage"), {"links": False}, create=True)


def limited(inner: Transport, clock: Clock, rate: int) -> Transport:
    return ThrottledTransport(inner, clock.bucket(rate))


class TestThrottledTransport(TransportConformance):
    def open_storage(self, folder: Path) -> Transport:
        inner = LocalPlugin().open(f"file:{folder}", {"links": False}, create=True)
        return ThrottledTransport(inner, TokenBucket(1 << 30, sleep=lambda _seconds: None))


Work = Callable[[Transport, Path], object]


@pytest.mark.parametrize(
    "work",
    [
        lambda storage, path: storage.put("new", path.read_bytes()),
        lambda storage, path: storage.put_file("new", path),
        lambda storage, path: storage.get("there"),
        lambda storage, path: storage.get_file("there", path.with_name("copy")),
    ],
    ids=["put", "put_file", "get", "get_file"],
)
def test_bytes_take_the_time_that_the_rate_says(storage: Transport, clock: Clock, tmp_path: Path, work: Work) -> None:
    (tmp_path / "file").write_bytes(bytes(4096 * KIB))
    storage.put("there", bytes(4096 * KIB))
    work(limited(storage, clock, 256 * KIB), tmp_path / "file")
    assert clock.now_s == pytest.approx(16 - BURST_S)


def test_files_are_slowed_down_while_they_travel(storage: Transport, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096 * KIB))
    told: list[int] = []
    limited(storage, clock, 256 * KIB).put_file("a", tmp_path / "file", told.append)
    assert sum(told) == 4096 * KIB
    assert max(clock.slept) <= 4  # a mebibyte at most between two pauses


def test_a_put_that_goes_on_pays_for_the_rest_only(storage: Transport, clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096 * KIB))
    slow = limited(storage, clock, 256 * KIB)

    def cut(count: int) -> None:
        if clock.now_s >= 8:
            raise NotConvenientError("enough")

    with pytest.raises(NotConvenientError):
        slow.put_file("a", tmp_path / "file", cut)
    assert slow.put_file("a", tmp_path / "file") > 0
    assert clock.now_s == pytest.approx(16 - BURST_S, abs=1)


def test_links_names_and_sizes_cost_nothing(clock: Clock, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(4096 * KIB))
    slow = limited(LocalPlugin().open(str(tmp_path / "storage"), {}, create=True), clock, 1)
    slow.put_file("a", tmp_path / "file")
    slow.get_file("a", tmp_path / "copy")
    assert (slow.stat("a").size, len(list(slow.list()))) == (4096 * KIB, 1)
    assert slow.free_space() is not None
    slow.delete("a")
    assert clock.slept == []


@given(st.integers(1, 10**7), st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 100)), max_size=30))
def test_no_pause_saves_up_more_than_one_burst(rate: int, steps: list[tuple[int, float]]) -> None:
    clock = Clock()
    bucket = clock.bucket(rate)
    paid: list[tuple[float, int]] = []
    for count, pause_s in steps:
        clock.now_s += pause_s
        bucket.pay(count)
        paid.append((clock.now_s, count))
    for first in range(len(paid)):
        for last in range(first, len(paid)):
            elapsed_s = paid[last][0] - paid[first][0]
            travelled = sum(count for _, count in paid[first + 1 : last + 1])
            assert travelled <= elapsed_s * rate + rate * BURST_S + 1e-3 * rate


def test_several_threads_share_the_rate() -> None:
    now_s, waits, lock = 0.0, [], threading.Lock()

    def sleep(seconds: float) -> None:
        with lock:
            waits.append(seconds)

    bucket = TokenBucket(1000, lambda: now_s, sleep)
    threads = [threading.Thread(target=bucket.pay, args=(1000,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(waits) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]  # the burst, then one a second
