"""Running a command over the chosen tiers: one that fails does not stop the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from cdr_plugin.errors import CdrError, NotConvenientError, UserError

if TYPE_CHECKING:
    from cdr_plugin.config import TierConfig

    from .context import Context


def each(context: Context, tiers: Iterable[TierConfig], what: str, work: Callable[[TierConfig], int]) -> int:
    """Do ``work`` for every tier; the exit code. A single tier's error is raised as it is.

    Of several, the error of each is reported by name, and the gravest code counts: a failure
    before "not convenient", both before "some files could not be read".
    """
    chosen = list(tiers)
    if not chosen:
        raise UserError(f"no tier to {what} in {context.config.path}; see 'cdr config check'")
    if len(chosen) == 1:
        return work(chosen[0])
    codes = list(_codes(context, chosen, what, work))
    return next((code for code in (1, *sorted(set(codes) - {0, 3, 75}), 75, 3) if code in codes), 0)


def _codes(
    context: Context, tiers: Iterable[TierConfig], what: str, work: Callable[[TierConfig], int]
) -> Iterator[int]:
    for tier in tiers:
        try:
            yield work(tier)
        except CdrError as error:
            if not isinstance(error, NotConvenientError):
                context.output.error(tier.name, what, error)
            else:
                context.output.note(f"{tier.name}: {error}")
            yield error.exit_code
