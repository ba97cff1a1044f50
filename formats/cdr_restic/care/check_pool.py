"""Verifies packs in several processes.

Processes, because a small blob costs about 15 microseconds, nearly all of it with the interpreter's lock held:
two threads check 100,000 small files no faster than one. They are started by ``subprocess``, not
forked: a fork of a process with threads (our lock has one) may hang.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from cdr_plugin.errors import RemoteError
from cdr_restic.crypto import KeyMaterial
from cdr_restic.storage import FileKind, Storage
from cdr_restic.verify_worker import LENGTH, Answer, Request, answer, receive
from cdr_restic.verifying import PackVerifier

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from cdr_restic.verify_worker import main; main()"
)
_MAX_WORKERS = 8
"""Each takes about 40 MB."""
_decoder = msgspec.msgpack.Decoder(Answer)


def worker_count() -> int:
    """One process for each core that we may use; none where there is no interpreter to start."""
    return min(len(os.sched_getaffinity(0)), _MAX_WORKERS) if sys.executable else 0


@contextlib.contextmanager
def verifying_packs(
    storage: Storage, key: KeyMaterial, requests: Iterable[Request], workers: int
) -> Iterator[Iterator[tuple[Request, Answer]]]:
    """The answers for all packs, in the order in which they are done. Workers begin at once; without
    any, each pack is verified when its answer is asked for. Requests are taken one or two per worker
    ahead. RemoteError when a worker dies; when the ``with`` block is left, none is left."""
    if not workers:
        yield _verify_here(storage, PackVerifier(key), requests)
        return
    with _Pool(storage, key, requests, workers) as pool:
        yield pool.answers()


def _verify_here(
    storage: Storage, verifier: PackVerifier, requests: Iterable[Request]
) -> Iterator[tuple[Request, Answer]]:
    for request in requests:
        try:
            with storage.opened(FileKind.DATA, request.name) as descriptor:
                result = answer(verifier, request, descriptor)
        except RemoteError as error:
            result = _unreadable(error)
        yield request, result


def _unreadable(error: RemoteError) -> Answer:
    return Answer(0, [f"it cannot be read: {error}"], [])


class _Worker:
    """One process. Used by one thread; ``kill`` by any."""

    def __init__(self, key: KeyMaterial) -> None:
        self._channel, theirs = socket.socketpair()
        with theirs:
            # A group of its own: Ctrl-C on the terminal is for the parent, which then ends its workers.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", _BOOT, json.dumps(sys.path)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                process_group=0,
            )
        self._key = key.encrypt + key.mac_k + key.mac_r

    def ask(self, request: Request, descriptor: int) -> None:
        """The descriptor may be closed afterwards."""
        body = msgspec.msgpack.encode(request)
        try:
            if self._key:
                self._channel.sendall(self._key)
                self._key = b""
            socket.send_fds(self._channel, [LENGTH.pack(len(body))], [descriptor])
            self._channel.sendall(body)
        except OSError:
            raise self._death(request) from None

    def answer(self, request: Request) -> Answer:
        try:
            return _decoder.decode(receive(self._channel, LENGTH.unpack(receive(self._channel, LENGTH.size))[0]))
        except (OSError, EOFError):
            raise self._death(request) from None

    def _death(self, request: Request) -> RemoteError:
        code = self._process.wait()
        how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
        return RemoteError(
            f"a process that verifies packs {how} at pack {request.name[:10]}; "
            "check again, with more memory if that was the cause"
        )

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self._channel.close()


class _Pool:
    """A thread feeds each worker: it opens the next pack (or fetches it) while one is verified."""

    def __init__(self, storage: Storage, key: KeyMaterial, requests: Iterable[Request], count: int) -> None:
        self._storage = storage
        self._requests = iter(requests)
        self._taking = threading.Lock()
        self._stopped = False
        self._results: queue.SimpleQueue[tuple[Request, Answer] | BaseException | None] = queue.SimpleQueue()
        self._workers: list[_Worker] = []
        self._threads: list[threading.Thread] = []
        self._count = count
        self._key = key

    def __enter__(self) -> Self:
        try:
            for _ in range(self._count):
                worker = _Worker(self._key)
                self._workers.append(worker)
                thread = threading.Thread(target=self._run, args=(worker,), name="restic-check", daemon=True)
                thread.start()
                self._threads.append(thread)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self._stopped = True
        for worker in self._workers:
            worker.kill()
        for thread in self._threads:
            thread.join()
        for worker in self._workers:
            worker.close()

    def answers(self) -> Iterator[tuple[Request, Answer]]:
        running = len(self._threads)
        while running:
            result = self._results.get()
            if isinstance(result, BaseException):
                raise result
            if result is None:
                running -= 1
            else:
                yield result

    def _run(self, worker: _Worker) -> None:
        try:
            self._feed(worker)
            self._results.put(None)
        except BaseException as error:  # raised again by answers()
            self._results.put(error)

    def _feed(self, worker: _Worker) -> None:
        asked: Request | None = None
        while not self._stopped and (request := self._next()) is not None:
            with contextlib.ExitStack() as held:
                try:
                    descriptor = held.enter_context(self._storage.opened(FileKind.DATA, request.name))
                except RemoteError as error:
                    self._results.put((request, _unreadable(error)))
                    continue
                with contextlib.suppress(OSError):
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
                self._finish(worker, asked)
                worker.ask(request, descriptor)
                asked = request
        self._finish(worker, asked)

    def _finish(self, worker: _Worker, asked: Request | None) -> None:
        if asked is not None:
            self._results.put((asked, worker.answer(asked)))

    def _next(self) -> Request | None:
        with self._taking:
            return next(self._requests, None)
