"""What is known of the care of one group: its last check and forget, and what is verified. Changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cdr_plugin.top.care_state import CareState
    from cdr_plugin.top.tier import TopTier


@dataclass(frozen=True, slots=True)
class CareStatus:
    """``fields``: as ``cdr status --json`` shows them, times RFC 3339."""

    fields: dict[str, Any]
    verified: dict[tuple[bytes, int, bytes], int] = field(default_factory=dict)

    def verified_of(self, client: bytes) -> dict[tuple[int, bytes], int]:
        """Number and record hash of its verified versions, and when a check covered each."""
        own = client[:16]
        return {(number, hash_): time_s for (id_, number, hash_), time_s in self.verified.items() if id_ == own}


def care_of_group(top: TopTier) -> CareStatus:
    """Looks at the notes that care has left; makes none."""
    from cdr_plugin.top.care_state import CareState

    if not CareState.exists(top.state_folder):
        return CareStatus({"group": top.group, "check": None, "forget": None})
    with CareState(top.state_folder) as care:
        return CareStatus({"group": top.group, "check": _check(care), "forget": _forget(care)}, care.verified())


def _check(care: CareState) -> dict[str, Any] | None:
    note = care.last_check()
    if note is None:
        return None
    return {
        "time": moment_of(note.ended_s),
        "errors": note.errors,
        "problem": note.problem,
        "part": note.part,
        "parts": note.parts,
        "all_read_since": moment_of(care.all_read_since_s()),
        "versions": note.versions,
    }


def _forget(care: CareState) -> dict[str, Any] | None:
    note = care.last_forget()
    if note is None:
        return None
    return {"time": moment_of(note.ended_s), "removed": note.removed, "kept": note.kept, "owes_prune": care.owes_prune}


def moment_of(seconds: float | None) -> str | None:
    """RFC 3339, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
