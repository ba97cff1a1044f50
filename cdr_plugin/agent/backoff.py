"""How long to wait after failures, and between questions."""

from __future__ import annotations

from random import Random

SHORTEST_S = 30.0
LONGEST_S = 3600.0

SOONEST_QUESTION_S = 1.0
LATEST_QUESTION_S = 900.0
"""A verdict holds for as long as it says, within these bounds: what it rests on may change unseen."""


def delay_s(failures: int, random: Random) -> float:
    """Between ``SHORTEST_S`` and ``LONGEST_S``, twice as long after each failure in a row, and scattered:
    a hundred clients that failed together are not to come back together."""
    longest = min(LONGEST_S, SHORTEST_S * 2.0 ** min(failures, 32))
    return random.uniform(longest / 2, longest)


def question_s(ask_again_s: float) -> float:
    """When to ask again; also for what a plugin says that is no number."""
    if not ask_again_s > SOONEST_QUESTION_S:
        return SOONEST_QUESTION_S
    return min(ask_again_s, LATEST_QUESTION_S)
