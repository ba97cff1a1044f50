"""The flag that ``cdr pause`` sets for a tier: a file in its state folder, which survives restarts."""

from __future__ import annotations

import time
from pathlib import Path

from cdr_plugin.files import storage_error, sync_folder, write_durably

NAME = "paused"


def pause(folder: Path) -> bool:
    """Durable when this returns; whether the tier was not paused before."""
    if paused_since_s(folder) is not None:
        return False
    write_durably(folder / NAME, f"{int(time.time())}\n".encode())
    return True


def resume(folder: Path) -> bool:
    """Whether the tier was paused."""
    path = folder / NAME
    try:
        path.unlink()
        sync_folder(folder)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise storage_error(path, error) from error
    return True


def paused_since_s(folder: Path) -> float | None:
    """Seconds since 1970; None when the tier is not paused."""
    path = folder / NAME
    try:
        with path.open("rb") as file:
            text = file.read(32)
        return float(text) if text.strip().isdigit() else path.stat().st_mtime
    except OSError:
        return None

