"""A transport that fails as planned: for tests of whatever uses one.

Faults form a queue. The first one waits for the operation that it names; when it has struck, the
next one waits. ``check_all_fired`` (also called when a ``with`` block ends well) says which did not.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from cdr_plugin.contracts import ObjectInfo, Transport
from cdr_plugin.errors import CdrError, RemoteError
from cdr_plugin.model.blobs import Buffer

R = TypeVar("R")


class Kind(Enum):
    """What goes wrong."""

    BEFORE = auto()
    """The operation fails and has done nothing."""
    AFTER = auto()
    """The operation is done, but its caller sees a failure (the answer was lost)."""
    TORN = auto()
    """A put leaves only the first ``keep_bytes`` bytes, then fails: a storage that breaks its contract."""
    DELAY = auto()
    """``meanwhile`` runs first, then the operation as usual: another party comes in between."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One planned fault: ``operation`` is a method's name or ``*``, ``name`` a shell pattern for object
    names, ``skip`` the number of matching calls that still go well."""

    kind: Kind
    operation: str = "*"
    name: str = "*"
    skip: int = 0
    error: CdrError = field(default_factory=lambda: RemoteError("a planned fault"))
    keep_bytes: int = 0
    meanwhile: Callable[[], None] = lambda: None


class FaultyTransport(Transport):
    """``inner`` with a queue of faults; thread-safe if ``inner`` is."""

    def __init__(self, inner: Transport, faults: Iterable[Fault] = ()) -> None:
        self.abilities = inner.abilities
        self._inner = inner
        self._faults = list(faults)
        self._skipped = 0
        self._lock = threading.Lock()

    def plan(self, *faults: Fault) -> None:
        """Append to the queue."""
        with self._lock:
            self._faults.extend(faults)

    def check_all_fired(self) -> None:
        """AssertionError that lists the faults which have not struck."""
        with self._lock:
            left = [f"{f.kind.name} {f.operation} {f.name} (skip {f.skip})" for f in self._faults]
        if left:
            raise AssertionError(f"planned faults did not fire: {'; '.join(left)}")

    def put(self, name: str, data: Buffer, *, overwrite: bool = False) -> None:
        self._do(
            "put",
            name,
            lambda: self._inner.put(name, data, overwrite=overwrite),
            torn=lambda kept: self._inner.put(name, bytes(data[:kept]), overwrite=overwrite),
        )

    def put_file(self, name: str, path: Path) -> None:
        self._do(
            "put_file",
            name,
            lambda: self._inner.put_file(name, path),
            torn=lambda kept: self._inner.put(name, path.read_bytes()[:kept]),
        )

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._do("get", name, lambda: self._inner.get(name, offset, length))

    def get_file(self, name: str, path: Path) -> None:
        self._do("get_file", name, lambda: self._inner.get_file(name, path))

    def stat(self, name: str) -> ObjectInfo:
        return self._do("stat", name, lambda: self._inner.stat(name))

    def list(self, folder: str = "") -> Iterator[ObjectInfo]:
        return self._do("list", folder, lambda: self._inner.list(folder))

    def delete(self, name: str) -> None:
        self._do("delete", name, lambda: self._inner.delete(name))

    def free_space(self) -> int | None:
        return self._do("free_space", "", self._inner.free_space)

    def close(self) -> None:
        self._inner.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if kind is None:
            self.check_all_fired()

    def _do(
        self, operation: str, name: str, work: Callable[[], R], torn: Callable[[int], Any] | None = None
    ) -> R:
        fault = self._next(operation, name, can_tear=torn is not None)
        if fault is None:
            return work()
        if fault.kind is Kind.DELAY:
            fault.meanwhile()
            return work()
        if fault.kind is Kind.AFTER:
            work()
        elif fault.kind is Kind.TORN and torn is not None:
            torn(fault.keep_bytes)
        raise fault.error

    def _next(self, operation: str, name: str, *, can_tear: bool) -> Fault | None:
        """Take the first fault off the queue if this call is the one that it waits for."""
        with self._lock:
            if not self._faults:
                return None
            fault = self._faults[0]
            if fault.operation not in ("*", operation) or not fnmatch.fnmatchcase(name, fault.name):
                return None
            if fault.kind is Kind.TORN and not can_tear:
                return None
            if self._skipped < fault.skip:
                self._skipped += 1
                return None
            self._skipped = 0
            return self._faults.pop(0)
