"""A transport within a bandwidth limit: a token bucket that all threads, and all storages of one link, share.

Whoever moves bytes pays for them, and sleeps while the bucket is in debt. Files are paid for as they
travel; an object that is put or got whole is one burst, and who comes next pays for it by waiting.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cdr_plugin.contracts import ObjectInfo, Transport, Travelled
from cdr_plugin.model.blobs import Buffer

BURST_S = 1.0
"""Seconds of the rate that may be saved up while nothing travels."""


class TokenBucket:
    """``rate`` in bytes per second. May be used by several threads at once."""

    def __init__(
        self,
        rate: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = rate
        self._burst = rate * BURST_S
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._balance = self._burst
        self._asked_s = clock()

    def pay(self, count: int) -> None:
        """Returns when ``count`` bytes may have travelled. Those who come later wait longer: over any time
        T, what all have paid for is at most T times the rate, one burst and what they pay for just now."""
        with self._lock:
            now_s = self._clock()
            self._balance = min(self._balance + (now_s - self._asked_s) * self._rate, self._burst) - count
            self._asked_s = now_s
            wait_s = -self._balance / self._rate
        if wait_s > 0:
            self._sleep(wait_s)


class ThrottledTransport(Transport):
    """``inner``, as fast as ``bucket`` allows. Links move no bytes and cost nothing; neither do names and
    sizes."""

    def __init__(self, inner: Transport, bucket: TokenBucket) -> None:
        self.abilities = inner.abilities
        self._inner = inner
        self._bucket = bucket

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        self._bucket.pay(memoryview(data).nbytes)
        self._inner.put(name, data, overwrite=overwrite)

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        return self._inner.put_file(name, path, self._paying(moved))

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        data = self._inner.get(name, offset, length)
        self._bucket.pay(len(data))  # not before: nobody knows how long an object is
        return data

    def get_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> None:
        self._inner.get_file(name, path, self._paying(moved))

    def _paying(self, moved: Travelled) -> Travelled:
        def pay(count: int) -> None:
            moved(count)  # first, since what it raises needs not to wait
            self._bucket.pay(count)

        return pay

    def stat(self, name: str) -> ObjectInfo:
        return self._inner.stat(name)

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        return self._inner.list(folder)

    def delete(self, name: str) -> None:
        self._inner.delete(name)

    def free_space(self) -> int | None:
        return self._inner.free_space()

    def close(self) -> None:
        self._inner.close()
