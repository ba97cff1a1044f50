"""A version that waits and has not begun to travel makes room for a newer one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cdr_plugin.archiver import catalog_blobs
from cdr_plugin.client.catalogs import remove_catalogs_from
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.room import remove_files
from cdr_plugin.client.rows import blob_key
from cdr_plugin.client.state import ClientState, VersionRow
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.errors import FormatError, NotConvenientError, UserError
from cdr_plugin.files import exclusive
from cdr_plugin.reporter import Reporter

Fits = Callable[[int, KnownBlobs, Path | None], bool]
"""Would the next version fit in so many bytes, given what is known then and the catalog that it is compared with?"""


def take_back_newest(client: ClientTier, reporter: Reporter, fits: Fits) -> bool:
    """Whether the newest version was taken back, because it waits, nothing of it has begun to travel, and the
    version that takes its place ``fits`` then. Under ``backup.lock``; nobody else may send meanwhile."""
    try:
        with exclusive(client.state_folder / "send.lock", f"sending of {client.name}"):
            newest = client.state.newest_version()
            return newest is not None and _take_back(client, newest, reporter, fits)
    except NotConvenientError:
        return False


def _take_back(client: ClientTier, version: VersionRow, reporter: Reporter, fits: Fits) -> bool:
    state, holdings = client.state, client.state.holdings
    parcel = holdings.first_of(version.number)
    if parcel is None:
        return False
    catalog = _catalog_before(state, version.number, parcel)
    if client.spool_limit is not None:
        room = client.spool_limit - holdings.bytes_outside(parcel)
        if not fits(room, KnownBlobs(holdings.known_outside(parcel)), catalog):
            return False
    take_back(client, parcel, version.number, is_void=catalog is None)
    reporter.note(
        f"client {client.name}: version {version.number} of {version.time[:19]}, which had not begun to travel, is "
        "replaced by a newer one: the spool is full"
    )
    return True


def take_back(client: ClientTier, parcel: int, number: int, *, is_void: bool) -> None:
    """Versions from ``number``, and all segments from ``parcel`` on. ``is_void``: so are catalogs before them."""
    gone = client.state.holdings.cut_off(parcel, is_void=is_void)
    remove_catalogs_from(client.state, number)
    remove_files(client, gone)


def drop_versions(client: ClientTier, number: int, *, force: bool) -> tuple[list[int], int]:
    """Take version ``number`` and those behind it out of the queue; their numbers, and how many bytes the spool
    holds less. UserError when it is not there, or has begun to travel and ``force`` is not given.

    With ``force`` its segments are given up whatever their state; the version stays known, since the tiers above may
    know it, and what it held counts as never sent.
    """
    with (
        exclusive(client.state_folder / "backup.lock", f"backup of {client.name}"),
        exclusive(client.state_folder / "send.lock", f"sending of {client.name}"),
    ):
        before = client.state.holdings.size()
        dropped = [row.number for row in client.state.versions() if row.number >= number]
        if not dropped or dropped[0] != number:
            raise UserError(f"client {client.name}: there is no version {number}; see 'cdr queue list'")
        parcel = client.state.holdings.first_of(number)
        if parcel is not None:
            take_back(client, parcel, number, is_void=_catalog_before(client.state, number, parcel) is None)
        elif force:
            dropped = [number]
            remove_files(client, client.state.holdings.give_up(number))
        else:
            raise UserError(
                f"client {client.name}: version {number}, or something behind it, has begun to travel; --force gives "
                "it up all the same, and then it may never be complete above"
            )
        return dropped, before - client.state.holdings.size()


def _catalog_before(state: ClientState, number: int, parcel: int) -> Path | None:
    """The catalog that the next version is compared with once this one is gone. Not one that names a blob which
    was asked for again and travelled only in what is taken back."""
    path = state.catalog_path(number - 1, state.catalog_generation)
    if not path.exists():
        return None
    known = KnownBlobs([*state.holdings.known_outside(parcel), *(blob.key for blob in state.wanted.all())])
    try:
        return path if all(blob_key(*blob) in known for blob in catalog_blobs(path)) else None
    except FormatError:
        return None
