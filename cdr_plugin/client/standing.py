"""Reading what the top tier still has of us, and no longer building on what it has not.

A cache of knowledge, never a condition: whatever this gets wrong, the top tier answers as *missing*. See
'Standing' in docs/design/transfer-queue.md for the table that is carried out here.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from cdr_plugin.archiver.catalog import catalog_blobs
from cdr_plugin.client.answer_reading import newest_answer
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.state import ClientState, VersionRow, blob_key
from cdr_plugin.client.states import VersionState
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.client.tier_keys import top_signer
from cdr_plugin.contracts import Transport
from cdr_plugin.errors import FormatError, NotConvenientError
from cdr_plugin.files import TEMPORARY_PREFIX, exclusive, storage_error, sync_folder
from cdr_plugin.parcel.limits import MAX_STANDING_VERSIONS
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.standing import PresentVersion, Standing, pack_versions, read_standing, unpack_versions
from cdr_plugin.reporter import Reporter

_SERIAL, _REPOSITORY, _LISTED = "standing_serial", "standing_repository", "standing_versions"

_BATCH_BLOBS = 8192


def read_standings(client: ClientTier, storages: Iterable[Transport], folder: str, reporter: Reporter) -> None:
    """Act on the newest standing in any of the storages, if it is newer than the last one.

    Behind the receipts, which say what is committed. A storage that fails does not matter here.
    """
    name = answer_name(folder, Answer.STANDING)
    newest = newest_answer(client, storages, name, read_standing, top_signer, reporter, what="its standing is")
    if newest is not None and newest.serial > int(client.state.get(_SERIAL) or b"0"):
        apply_standing(client, newest, reporter)


def apply_standing(client: ClientTier, standing: Standing, reporter: Reporter) -> None:
    """Bring the state up to what ``standing`` says; read receipts first, they say what is committed.

    One transaction, so that a run that was killed starts over. While a backup is running, which has its number
    already, a standing that names the version to be followed waits for the next time.
    """
    judgement = _judge(client, standing)
    if judgement is None:
        return
    with ExitStack() as stack:
        if judgement.newest is not None:
            try:
                stack.enter_context(exclusive(client.state_folder / "backup.lock", f"backup of {client.name}"))
            except NotConvenientError as error:
                reporter.note(f"{client.name}: {error}; version {standing.number} at the top tier is followed later")
                return
        _take(client, standing, judgement, reporter)


@dataclass(frozen=True, slots=True)
class _Judgement:
    """What follows from a standing. ``all_gone``: nothing that is committed serves any more; ``some_gone``: a
    version before the newest; ``newest``: what the next version is to follow, where it is not our own."""

    all_gone: bool
    some_gone: bool
    newest: VersionRow | None


def _judge(client: ClientTier, standing: Standing) -> _Judgement | None:
    """None for a standing that is older than what receipts have said since: a newer one is to come."""
    state = client.state
    own = state.versions()
    committed = [row for row in own if row.state is VersionState.COMMITTED]
    last = committed[-1].number if committed else 0
    if standing.serial < int(state.get("receipt_serial") or b"0") and last > standing.number:
        return None
    known = state.get(_REPOSITORY)
    before = state.get(_LISTED)
    listed = {_present(row) for row in committed} if before is None else set(unpack_versions(before))
    moved = known is not None and known != standing.repository.encode()
    some_gone = any(_present(row) in listed and _is_gone(row, standing) for row in committed)
    newest = None
    if standing.number > (own[-1].number if own else 0):
        newest = _row(standing)
    return _Judgement(moved or bool(committed and _is_gone(committed[-1], standing)), some_gone, newest)


def _present(row: VersionRow) -> PresentVersion:
    return PresentVersion(row.number, row.hash)


def _is_gone(row: VersionRow, standing: Standing) -> bool:
    """A list that is full says nothing of what comes before it, be it the other side of a fork."""
    versions = standing.versions
    if len(versions) == MAX_STANDING_VERSIONS and _present(row) < versions[0]:
        return False
    at = bisect_left(versions, _present(row))
    return at == len(versions) or versions[at] != _present(row)


def removed_versions(state: ClientState) -> set[tuple[int, bytes]]:
    """Number and record hash of committed versions that the top tier has no more, as its last standing says. What a
    receipt called committed since then is not among them."""
    packed = state.get(_LISTED)
    if packed is None:
        return set()
    versions = unpack_versions(packed)
    listed, newest = set(versions), max((version.number for version in versions), default=0)
    first = versions[0] if len(versions) == MAX_STANDING_VERSIONS else PresentVersion(0, b"")
    is_latest_word = int(state.get(_SERIAL) or b"0") > int(state.get("receipt_serial") or b"0")
    committed = (_present(row) for row in state.versions() if row.state is VersionState.COMMITTED)
    return {
        version
        for version in committed
        if version not in listed and version > first and (is_latest_word or version.number <= newest)
    }


def _row(standing: Standing) -> VersionRow:
    committed = VersionState.COMMITTED
    return VersionRow(standing.number, b"", b"", standing.record, standing.tree, standing.time, committed)


def _take(client: ClientTier, standing: Standing, judgement: _Judgement, reporter: Reporter) -> None:
    state = client.state
    facts = {_SERIAL: str(standing.serial).encode(), _REPOSITORY: standing.repository.encode()}
    keep = None if judgement.all_gone or not judgement.some_gone else _in_newest_catalog(client)
    strike = judgement.all_gone or keep is not None
    if strike or not judgement.some_gone:  # else there is no catalog to go by: looked at again next time
        facts[_LISTED] = pack_versions(standing.versions)
    if judgement.newest is not None:
        _carry_catalog(client, judgement.newest.number)
    struck = state.standing.apply(facts, strike=strike, keep=keep, newest=judgement.newest)
    if struck:
        why = "its newest version is not in the repository" if judgement.all_gone else "versions were removed above"
        reporter.note(f"{client.name}: {why}; {struck} blobs are sent again where they are needed")
    if judgement.newest is not None:
        reporter.note(
            f"{client.name}: the top tier has version {standing.number} of this client, which is not known here (an "
            "older state, a lost one, or a second machine of the same identity); the next version follows it"
        )


def _in_newest_catalog(client: ClientTier) -> KnownBlobs | None:
    """The blobs of the newest version; None when its catalog is not to be had."""
    state = client.state
    newest = state.newest_version()
    path = state.catalog_path(newest.number if newest else 0, state.catalog_generation)
    try:
        return KnownBlobs(_runs(path))
    except FormatError:
        return None


def _runs(catalog: Path) -> Iterator[bytes]:
    blobs = catalog_blobs(catalog)
    while run := b"".join(blob_key(type_, id_) for type_, id_ in islice(blobs, _BATCH_BLOBS)):
        yield run


def _carry_catalog(client: ClientTier, number: int) -> None:
    """Our newest catalog serves on under the number that is followed: it says of our files what is known. One that
    a run which was killed has left there does not."""
    state = client.state
    own = state.newest_version()
    path = state.catalog_path(own.number if own else 0, state.catalog_generation)
    temporary = state.folder / f"{TEMPORARY_PREFIX}carried-catalog"
    place = state.catalog_path(number, state.catalog_generation)
    temporary.unlink(missing_ok=True)
    try:
        place.unlink(missing_ok=True)
        os.link(path, temporary)
        temporary.replace(place)
    except FileNotFoundError:
        return  # the next backup reads all files
    except OSError as error:
        raise storage_error(path, error) from error
    sync_folder(state.folder)
