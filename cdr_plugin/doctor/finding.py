"""One thing that the doctor found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from cdr_plugin.errors import CdrError


class Severity(Enum):
    """``BROKEN``: it does not work until somebody does something. ``WARNING``: it will not for long, or not well.
    ``NOTE``: worth knowing."""

    BROKEN = "broken"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Finding:
    """``tier``: its name, empty for the machine. ``about``: the object. ``next_step`` may be empty for a note."""

    severity: Severity
    tier: str
    about: str
    cause: str
    next_step: str = ""


Check: TypeAlias = Callable[[], Iterator[Finding]]


def broken(tier: str, about: str, cause: str, next_step: str) -> Finding:
    return Finding(Severity.BROKEN, tier, about, cause, next_step)


def warning(tier: str, about: str, cause: str, next_step: str) -> Finding:
    return Finding(Severity.WARNING, tier, about, cause, next_step)


def note(tier: str, about: str, cause: str, next_step: str = "") -> Finding:
    return Finding(Severity.NOTE, tier, about, cause, next_step)


def from_error(
    tier: str, about: str, error: Exception, step: str, severity: Severity = Severity.BROKEN
) -> Finding:
    """Our errors end with the next step, behind the last semicolon; ``step`` is that of those which do not."""
    text = " ".join(str(error).split()) or type(error).__name__
    cause, found, last = text.rpartition("; ")
    return Finding(severity, tier, about, cause, last) if found else Finding(severity, tier, about, text, step)


def guarded(tier: str, about: str, step: str, check: Check) -> Iterator[Finding]:
    """What ``check`` finds, and what it fails with as one more finding: no check ends the others."""
    try:
        yield from check()
    except (CdrError, OSError) as error:
        yield from_error(tier, about, error, step)
