"""Running a command over the chosen tiers: one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from cdr_plugin.errors import CdrError, NotConvenientError, UserError

if TYPE_CHECKING:
    from cdr_plugin.config import TierConfig

    from .context import Context


def each(context: Context, tiers: Iterable[TierConfig], what: str, work: Callable[[TierConfig], int]) -> int:
    """Do ``work`` for every tier; the exit code. UserError when there is none; else as ``every``."""
    chosen = list(tiers)
    if not chosen:
        raise UserError(f"no tier to {what} in {context.config.path}; see 'cdr config check'")
    return every(context, what, [(tier.name, partial(work, tier)) for tier in chosen])


def every(context: Context, what: str, jobs: Sequence[tuple[str, Callable[[], int]]]) -> int:
    """Do every named job; the exit code. A single job's error is raised as it is.

    Of several, the error of each is reported by name, and the gravest code counts: a failure
    before "not convenient", both before "some files could not be read".
    """
    if len(jobs) == 1:
        return jobs[0][1]()
    codes = list(_codes(context, what, jobs))
    return next((code for code in (1, *sorted(set(codes) - {0, 3, 75}), 75, 3) if code in codes), 0)


def _codes(context: Context, what: str, jobs: Iterable[tuple[str, Callable[[], int]]]) -> Iterator[int]:
    for name, work in jobs:
        try:
            yield work()
        except CdrError as error:
            if not isinstance(error, NotConvenientError):
                context.output.error(name, what, error)
            else:
                context.output.note(f"{name}: {error}")
            yield error.exit_code
