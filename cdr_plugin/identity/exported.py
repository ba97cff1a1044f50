"""When a tier's identity was last exported, and whether its keys are still those of then.

Asked by ``cdr status``, so without the crypto library.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path

from cdr_plugin.tier_state import TierState

_WHEN, _KEYS = "identity_exported", "identity_exported_keys"


@dataclass(frozen=True, slots=True)
class LastExport:
    """``made_s``: seconds since 1970. ``is_current``: no key was made or replaced since."""

    made_s: int
    is_current: bool


def note_export(state_folder: Path, identity_folder: Path, made_s: int) -> None:
    """It is durable where the operator wanted it."""
    with closing(_tier_state(state_folder)) as state:
        state.put({_WHEN: str(made_s), _KEYS: _digest(identity_folder)})


def last_export(state_folder: Path, identity_folder: Path) -> LastExport | None:
    """None when there was none, as far as the state knows."""
    if not (state_folder / "tier" / "state.db").exists():
        return None
    with closing(_tier_state(state_folder)) as state:
        made_s, keys = state.get(_WHEN), state.get(_KEYS)
    return None if made_s is None else LastExport(int(made_s), keys == _digest(identity_folder))


def _tier_state(folder: Path) -> TierState:
    return TierState(folder / "tier", "", 1)


def _digest(identity_folder: Path) -> bytes:
    """Over the key files; the register changes with every client."""
    found = (identity_folder.rglob(pattern) for pattern in ("identity.key", "sealing-*.keys", "retained-*.pass"))
    joined = sha256()
    for path in sorted(chain.from_iterable(found)):
        try:
            joined.update(sha256(bytes(path.relative_to(identity_folder))).digest())
            joined.update(sha256(path.read_bytes()).digest())
        except OSError:
            continue
    return joined.digest()
