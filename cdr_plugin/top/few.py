"""A few lines about many things: whoever fills an inbox decides how many problems of one kind there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cdr_plugin.reporter import Reporter

MAX_NAMED = 16
"""Lines of one kind in one pass."""


@contextmanager
def few_errors(reporter: Reporter, item: str, rest: str) -> Iterator[Callable[[str, Exception | str], None]]:
    """Reports the first errors that it is called with, each of one object; in the end how many more ``rest`` there
    were in ``item``."""
    count = 0

    def error(name: str, problem: Exception | str) -> None:
        nonlocal count
        count += 1
        if count <= MAX_NAMED:
            reporter.error(name, "receive", problem)

    yield error
    if count > MAX_NAMED:
        reporter.error(item, "receive", f"{count - MAX_NAMED} more {rest}")
