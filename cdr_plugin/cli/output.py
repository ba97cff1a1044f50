"""What a command says: progress, notes, errors and results, for people or as JSON.

============  ===========================  ==========================  ==========================
              terminal                     no terminal                 ``--json``
============  ===========================  ==========================  ==========================
progress      bar (stderr)                 a line a minute (stderr)    ``status`` lines (stdout)
note          line (stderr)                line (stderr)               ``note`` lines (stderr)
item error    line (stderr)                line (stderr)               ``error`` lines (stderr)
result        text (stdout)                text (stdout)               ``summary`` (stdout), last
============  ===========================  ==========================  ==========================

``-q`` drops progress and notes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from cdr_plugin.reporter import Reporter

from .formatting import format_bytes, printable

if TYPE_CHECKING:
    from .progress import Bar

_T = TypeVar("_T")
_BATCH = 256
"""Results written together: a write for each would cost more than making it."""

BAR_EVERY_S = 0.1
JSON_EVERY_S = 1.0
LINE_EVERY_S = 60.0
"""How often progress is shown. Every call in between costs one clock reading (0.1 microseconds)."""


class Output(Reporter):
    """The reporter of the command line. Thread-safe."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        quiet: bool = False,
        verbose: int = 0,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.errors = 0
        """Items that failed while the work went on: exit code 3, usually."""
        self._stdout = stdout or sys.stdout
        self._stderr = stderr or sys.stderr
        self._on_terminal = not as_json and self._stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._every_s = JSON_EVERY_S if as_json else BAR_EVERY_S if self._on_terminal else LINE_EVERY_S
        self._next_s = time.monotonic() + (self._every_s if not self._on_terminal else 0)
        self._fields: dict[str, Any] = {}
        self._bar: Bar | None = None
        self._lock = threading.RLock()

    # --- what long work calls ---------------------------------------------------------------

    def progress(self, **fields: int | float | str) -> None:
        if self.quiet:
            return
        now_s = time.monotonic()
        with self._lock:
            self._fields.update(fields)
            if now_s < self._next_s:
                return
            self._next_s = now_s + self._every_s
            self._show_progress()

    def error(self, item: str, during: str, error: Exception | str) -> None:
        with self._lock:
            self.errors += 1
            if self.as_json:
                # restic's check says "message", its other commands "error".
                message = {"message_type": "error", "error": {"message": str(error)}, "message": str(error)}
                self._write_json(self._stderr, {**message, "during": during, "item": item})
            else:
                self._line(f"cdr: {during}: {item}: {error}")

    def item(self, action: str, item: str, size: int) -> None:
        if self.as_json:
            self.document({"message_type": "verbose_status", "action": action, "item": item, "size": size})
        else:
            self.line(f"{action:9} {item}" + (f" with size {format_bytes(size)}" if size else ""))

    def note(self, text: str) -> None:
        if self.quiet:
            return
        with self._lock:
            if self.as_json:
                self._write_json(self._stderr, {"message_type": "note", "message": text})
            else:
                self._line(text)

    # --- what commands call -----------------------------------------------------------------

    def detail(self, text: str) -> None:
        """A note that only ``-v`` asks for."""
        if self.verbose:
            self.note(text)

    def problem(self, text: str) -> None:
        """One of several errors that end the command with 1, each a whole line in itself."""
        with self._lock:
            self.errors += 1
            if self.as_json:
                message = {"message_type": "error", "error": {"message": text}, "message": text}
                self._write_json(self._stderr, message)
            else:
                self._line(f"cdr: {text}")

    def line(self, text: str = "") -> None:
        """A line of the result for people; nothing with ``--json``. May hold line ends."""
        if not self.as_json:
            self.close()
            with self._lock:
                print("\n".join(map(printable, text.split("\n"))), file=self._stdout)

    def document(self, value: object) -> None:
        """The whole result as one JSON document; nothing without ``--json``."""
        if self.as_json:
            with self._lock:
                self._write_json(self._stdout, value)

    def lines(self, texts: Iterable[str]) -> None:
        """Many results for people, each shown as one line; nothing with ``--json``, but ``texts`` is
        gone through all the same."""
        for batch in _batches(texts):
            if batch:
                self.line("\n".join(map(printable, batch)))

    def documents(self, values: Iterable[object]) -> None:
        """Many results as lines of JSON; nothing without ``--json``, but ``values`` is gone through all
        the same."""
        for batch in _batches(values):
            if self.as_json:
                text = "".join(json.dumps(value) + "\n" for value in batch)
                with self._lock:
                    self._stdout.write(text)

    @contextmanager
    def array(self) -> Iterator[Callable[[object], None]]:
        """One JSON array as the whole result, element by element as they are found; nothing without
        ``--json``. What is raised inside leaves it without its end."""
        mark = "["

        def add(value: object) -> None:
            nonlocal mark
            if self.as_json:
                with self._lock:
                    self._stdout.write(mark + json.dumps(value))
                mark = ","

        yield add
        if self.as_json:
            with self._lock:
                print("[]" if mark == "[" else "]", file=self._stdout, flush=True)

    def summary(self, fields: Mapping[str, Any]) -> None:
        """The ``summary`` object, last of all; nothing without ``--json``."""
        self.document({"message_type": "summary", **fields})

    def close(self) -> None:
        """Take the bar off the screen; what follows is plain again. Idempotent."""
        with self._lock:
            bar, self._bar = self._bar, None
            if bar is not None:
                bar.close()

    def _show_progress(self) -> None:
        if self.as_json:
            self._write_json(self._stdout, {"message_type": "status", **self._fields})
        elif self._on_terminal:
            if self._bar is None:
                from .progress import Bar

                self._bar = Bar(self._stderr)
            self._bar.update(self._fields)
        else:
            from .progress import in_words

            print(in_words(self._fields), file=self._stderr, flush=True)

    def _line(self, text: str) -> None:
        shown = printable(text)
        if self._bar is not None:
            self._bar.line(shown)
        else:
            print(shown, file=self._stderr, flush=True)

    def _write_json(self, stream: TextIO, value: object) -> None:
        # ASCII: what is no Unicode text (file names) arrives as escaped surrogates and breaks no encoder.
        print(json.dumps(value), file=stream, flush=True)


def _batches(items: Iterable[_T]) -> Iterator[list[_T]]:
    """What came before an error is still shown."""
    batch: list[_T] = []
    try:
        for item in items:
            batch.append(item)
            if len(batch) == _BATCH:
                yield batch
                batch = []
    except Exception:
        yield batch
        raise
    yield batch
