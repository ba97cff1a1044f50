"""What a crash left behind goes at the next start."""

from __future__ import annotations

import os
from pathlib import Path

from cdr_plugin.client.spooler import spool_path
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.files import TEMPORARY_PREFIX, remove_temporaries

_ID_DIGITS = 32


def sweep(client: ClientTier) -> None:
    """Remove temporary files, and spooled objects that no row holds. Under ``backup.lock``.

    A sender beside us may be writing answers: what is in its open parcel stays. Its row was there before
    its first file, so files are listed before rows are read.
    """
    state = client.state
    state.close_parcels()
    remove_temporaries(client.state_folder)
    found = [Path(entry.path) for entry in os.scandir(client.spool)]
    writing = {id_.hex() for id_ in state.open_parcels()}
    held = {spool_path(client.spool, row.parcel_id, row.index).name for row in state.holdings.held()}
    for path in found:
        if path.name not in held and path.name.removeprefix(TEMPORARY_PREFIX)[:_ID_DIGITS] not in writing:
            path.unlink(missing_ok=True)
