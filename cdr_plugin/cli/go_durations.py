"""Durations as restic takes them for ``--retry-lock``: ``5m``, ``1h30m``, ``1.5h``, ``300ms``, ``0``."""

from __future__ import annotations

import argparse
import re

_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NUMBER = r"(?:[0-9]{1,12}(?:\.[0-9]{0,12})?|\.[0-9]{1,12})"
_UNIT = r"(?:ns|us|µs|ms|s|m|h)"
_DURATION = re.compile(f"(?:{_NUMBER}{_UNIT})+").fullmatch
_PART = re.compile(f"({_NUMBER})({_UNIT})")


def go_duration(text: str) -> float:
    """Seconds; ArgumentTypeError."""
    if text == "0":
        return 0.0
    if _DURATION(text) is None:
        raise argparse.ArgumentTypeError(f"expected a duration such as '5m' or '1h30m', not {text!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
