"""What the agent says: a line per job that did something or failed, as text or JSON.

Times stand in front unless the journal adds its own; there, lines carry the priority that it sorts by.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, TextIO

from cdr_plugin.cli.formatting import printable

_MAX_LINES = 100
"""Lines that one run of a job may add: an unreadable folder must not fill the disk with complaints."""


class Log:
    """Thread-safe. ``detail`` is shown when ``verbose`` is, ``info`` unless ``quiet``."""

    def __init__(
        self,
        *,
        as_json: bool = False,
        verbose: bool = False,
        quiet: bool = False,
        stream: TextIO | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._as_json = as_json
        self._verbose = verbose
        self._quiet = quiet
        self._stream = stream or sys.stdout
        self._journal = _is_journal(self._stream, environment)
        self._lock = threading.Lock()

    def info(self, text: str, **fields: Any) -> None:
        if not self._quiet:
            self._write("info", 6, text, fields)

    def detail(self, text: str, **fields: Any) -> None:
        if self._verbose:
            self._write("detail", 7, text, fields)

    def warning(self, text: str, **fields: Any) -> None:
        self._write("warning", 4, text, fields)

    def error(self, text: str, **fields: Any) -> None:
        self._write("error", 3, text, fields)

    def _write(self, level: str, priority: int, text: str, fields: Mapping[str, Any]) -> None:
        now = datetime.fromtimestamp(time.time()).astimezone().isoformat(timespec="seconds")
        if self._as_json:
            line = json.dumps({"message_type": "log", "time": now, "level": level, **fields, "message": text})
        else:
            place = " ".join(str(fields[name]) for name in ("tier", "job") if name in fields)
            shown = printable(f"{place}: {text}" if place else text)
            line = f"<{priority}>{shown}" if self._journal else f"{now} {shown}"
        with self._lock:
            try:
                print(line, file=self._stream, flush=True)
            except OSError:
                pass  # nobody reads any more; backups go on


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether ``stream`` is what systemd says of it: the variable is inherited, the stream may be another."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


class JobVoice:
    """What one job says, run after run: a line that the run before said too is not repeated."""

    def __init__(self, log: Log, tier: str, job: str) -> None:
        self._log = log
        self._fields = {"tier": tier, "job": job}
        self._before: set[str] = set()
        self._said: set[str] = set()

    def begin(self) -> None:
        """A new run."""
        self._before, self._said = self._said, set()

    def say(self, line: str, is_error: bool) -> None:
        if line in self._said or len(self._said) > _MAX_LINES:
            return
        self._said.add(line)
        if len(self._said) > _MAX_LINES:
            self._log.warning("more lines follow, which are not shown; run the command by hand", **self._fields)
        elif line not in self._before:
            (self._log.error if is_error else self._log.info)(line, **self._fields)
