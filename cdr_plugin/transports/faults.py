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

from cdr_plugin.contracts import ObjectInfo, Transport, Travelled
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
    CUT = auto()
    """A ``put_file`` fails as soon as at least ``keep_bytes`` bytes have travelled; whether they are kept
    for the next one is up to ``inner``. Waits for the next put where fewer bytes travel, as by a link."""
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

    def put_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> int:
        return self._do(
            "put_file",
            name,
            lambda: self._inner.put_file(name, path, moved),
            torn=lambda kept: self._inner.put(name, path.read_bytes()[:kept]),
            cut=lambda fault: self._cut(fault, name, path, moved),
        )

    def _cut(self, fault: Fault, name: str, path: Path, moved: Travelled) -> int:
        travelled = 0

        def count(size: int) -> None:
            nonlocal travelled
            travelled += size
            moved(size)
            if travelled >= fault.keep_bytes:
                raise fault.error

        there = self._inner.put_file(name, path, count)
        with self._lock:
            self._faults.insert(0, fault)
        return there

    def get(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._do("get", name, lambda: self._inner.get(name, offset, length))

    def get_file(self, name: str, path: Path, moved: Travelled = lambda _count: None) -> None:
        self._do("get_file", name, lambda: self._inner.get_file(name, path, moved))

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
        self,
        operation: str,
        name: str,
        work: Callable[[], R],
        torn: Callable[[int], Any] | None = None,
        cut: Callable[[Fault], R] | None = None,
    ) -> R:
        fault = self._next(operation, name, can_tear=torn is not None, can_cut=cut is not None)
        if fault is None:
            return work()
        if fault.kind is Kind.CUT and cut is not None:
            return cut(fault)
        if fault.kind is Kind.DELAY:
            fault.meanwhile()
            return work()
        if fault.kind is Kind.AFTER:
            work()
        elif fault.kind is Kind.TORN and torn is not None:
            torn(fault.keep_bytes)
        raise fault.error

    def _next(self, operation: str, name: str, *, can_tear: bool, can_cut: bool) -> Fault | None:
        """Take the first fault off the queue if this call is the one that it waits for."""
        with self._lock:
            if not self._faults:
                return None
            fault = self._faults[0]
            if fault.operation not in ("*", operation) or not fnmatch.fnmatchcase(name, fault.name):
                return None
            if (fault.kind is Kind.TORN and not can_tear) or (fault.kind is Kind.CUT and not can_cut):
                return None
            if self._skipped < fault.skip:
                self._skipped += 1
                return None
            self._skipped = 0
            return self._faults.pop(0)
