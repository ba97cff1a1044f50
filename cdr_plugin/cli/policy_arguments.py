"""restic's options that say what to keep."""

from __future__ import annotations

import argparse

from cdr_plugin.retention.policy import UNLIMITED

_PERIODS = {
    "hourly": ("-H", "hour"),
    "daily": ("-d", "day"),
    "weekly": ("-w", "week"),
    "monthly": ("-m", "month"),
    "yearly": ("-y", "year"),
}


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """``policy_from`` reads them."""
    group = parser.add_argument_group("what to keep", "N is a number or 'unlimited', SPAN such as 1y6m7d12h")
    group.add_argument("--keep-last", "-l", type=_count, metavar="N", help="the last N versions")
    for name, (letter, period) in _PERIODS.items():
        help_ = f"the last of each of the last N {period}s that have any"
        group.add_argument(f"--keep-{name}", letter, type=_count, metavar="N", help=help_)
    group.add_argument("--keep-within", metavar="SPAN", help="all that are younger, counted from the newest")
    for name, (_, period) in _PERIODS.items():
        help_ = f"the last of each {period} among those that are younger"
        group.add_argument(f"--keep-within-{name}", metavar="SPAN", help=help_)
    tag_help = "those that have all of these tags (repeatable)"
    group.add_argument("--keep-tag", action="append", default=[], metavar="TAG[,TAG]", help=tag_help)


def _count(text: str) -> int:
    if text == "unlimited":
        return UNLIMITED
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number or 'unlimited', not {text!r}") from None
