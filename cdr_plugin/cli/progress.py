"""Progress for people, from fields named as in restic's ``status`` messages.

Known are ``percent_done`` (0 to 1), ``action`` (a word), ``current`` (an item), and pairs
``<what>_done`` with ``total_<what>`` for ``files``, ``bytes``, ``blobs`` and ``segments``; others are
shown as they are called.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from .formatting import format_bytes, printable


class Bar:
    """One line at the bottom of a terminal."""

    def __init__(self, stream: TextIO) -> None:
        # rich takes 60 ms to import, so only a bar that is shown pays for it.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=24),
            # A long file name must not make a second line of the bar.
            TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")),
            TimeElapsedColumn(),
            console=Console(file=stream),
            transient=True,
        )
        self._task = self._progress.add_task("", total=None)
        self._progress.start()

    def update(self, fields: Mapping[str, Any]) -> None:
        done = share_done(fields)
        total = None if done is None else 1.0
        words = in_words(fields)
        self._progress.update(self._task, total=total, completed=done or 0.0, description=words, refresh=True)

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def share_done(fields: Mapping[str, Any]) -> float | None:
    """0 to 1, or None while nobody knows."""
    if "percent_done" in fields:
        return min(float(fields["percent_done"]), 1.0)
    done, total = fields.get("bytes_done"), fields.get("total_bytes")
    return min(done / total, 1.0) if done is not None and total else None


def in_words(fields: Mapping[str, Any]) -> str:
    """``archiving: 45 %, 120 files, 1.000 MiB of 2.200 MiB, /home/a``."""
    done = share_done(fields)
    percent = [] if done is None else [f"{done * 100:.0f} %"]
    action = [f"{fields['action']}:"] if "action" in fields else []
    current = [printable(str(fields["current"]))] if "current" in fields else []
    return " ".join([*action, ", ".join([*percent, *_amounts(fields), *current])])


def _amounts(fields: Mapping[str, Any]) -> Iterator[str]:
    for key, value in fields.items():
        what = key.removesuffix("_done")
        if key in ("percent_done", "action", "current", "seconds_elapsed", "seconds_remaining"):
            continue
        if key.startswith("total_") and f"{key[6:]}_done" in fields:
            continue
        total = fields.get(f"total_{what}")
        amount = _amount(what, value)
        yield f"{amount} of {_amount(what, total)}" if total and key != what else amount


def _amount(what: str, value: Any) -> str:
    if "bytes" in what:
        rest = what.replace("bytes", "").strip("_").replace("_", " ")
        return " ".join(filter(None, [format_bytes(value), rest]))
    return f"{value} {what.replace('_', ' ')}"
