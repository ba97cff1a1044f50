"""What a mount remembers: folders and blobs, each up to a number of bytes. For any number of threads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from cdr_plugin.errors import CdrError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_AHEAD_THREADS = 2


class Cache(Generic[K, V]):
    """Values made on demand, once even when several threads ask at the same time.

    Forgets what was not asked for the longest when all together cost more than ``max_bytes``; the
    last one stays whatever it costs.
    """

    def __init__(self, make: Callable[[K], tuple[V, int]], max_bytes: int) -> None:
        """``make`` gives a value and its cost in bytes; what it raises reaches all who wait."""
        self._make = make
        self._max_bytes = max_bytes
        self._mutex = threading.Lock()
        self._kept: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._making: dict[K, Future[V]] = {}
        self.bytes = 0
        """Cost of what is kept."""

    def get(self, key: K) -> V:
        with self._mutex:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            future = self._making.get(key)
            mine = future is None
            if future is None:
                future = self._making[key] = Future()
        if mine:
            self._fill(key, future)
        return future.result()

    def holds(self, key: K) -> bool:
        """Is it here, or on its way?"""
        with self._mutex:
            return key in self._kept or key in self._making

    def _fill(self, key: K, future: Future[V]) -> None:
        try:
            value, cost = self._make(key)
        except BaseException as error:
            with self._mutex:
                del self._making[key]
            future.set_exception(error)
            return
        with self._mutex:
            del self._making[key]
            self._kept[key] = value, cost
            self.bytes += cost
            while self.bytes > self._max_bytes and len(self._kept) > 1:
                _, (_, forgotten) = self._kept.popitem(last=False)
                self.bytes -= forgotten
        future.set_result(value)


class ReadAhead(Generic[K, V]):
    """Fills a cache with what will be wanted soon, in threads of its own."""

    def __init__(self, cache: Cache[K, V]) -> None:
        self._cache = cache
        self._executor = ThreadPoolExecutor(_AHEAD_THREADS, thread_name_prefix="mount-ahead")

    def fetch(self, keys: Iterable[K]) -> None:
        """Errors are left to whoever asks for that key."""
        for key in keys:
            if not self._cache.holds(key):
                self._executor.submit(self._get, key)

    def close(self) -> None:
        self._executor.shutdown(cancel_futures=True)

    def _get(self, key: K) -> None:
        try:
            self._cache.get(key)
        except CdrError:
            return
