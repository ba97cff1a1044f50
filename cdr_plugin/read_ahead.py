"""Running an iterator in a thread of its own, a bounded number of items ahead of its consumer."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_END: Any = object()


class _Producer(Generic[T]):
    def __init__(self, source: Iterator[T], ahead: int) -> None:
        self._source = source
        self._items: queue.Queue[T] = queue.Queue(ahead)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._source:
                if not self._put(item):
                    return
        except BaseException as error:  # raised again in the consumer's thread
            self._error = error
        finally:
            if isinstance(self._source, Generator):
                self._source.close()
        self._put(_END)

    def _put(self, item: T) -> bool:
        while not self._stop.is_set():
            try:
                self._items.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while (item := self._items.get()) is not _END:
            yield item
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def read_ahead(source: Iterator[T], ahead: int = 4) -> Generator[Iterator[T], None, None]:
    """Iterate over ``source`` as it is, made in another thread up to ``ahead`` items early.

    What it raises is raised here. Leaving the block early stops the thread at its next item.
    """
    producer = _Producer(source, ahead)
    try:
        yield iter(producer)
    finally:
        producer.stop()
