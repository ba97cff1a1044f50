"""``cdr backup``: make a version into the spool. Works offline; exit 0 means captured.

The order of durable actions is that of docs/design/client-state.md.
"""

from __future__ import annotations

import getpass
import os
import platform
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from cdr_plugin import __version__
from cdr_plugin.archiver import ArchiveOptions, ArchiveResult, NewBlob, archive
from cdr_plugin.client.catalogs import kept_catalogs, remove_old_catalogs
from cdr_plugin.client.known_blobs import KnownBlobs
from cdr_plugin.client.places import Places
from cdr_plugin.client.replacing import take_back_newest
from cdr_plugin.client.room import Room, SpoolFullError, Streaming
from cdr_plugin.client.send import Sender
from cdr_plugin.client.spooler import SpoolCounts, Spooler
from cdr_plugin.client.state import ClientState, VersionRow
from cdr_plugin.client.states import VersionState
from cdr_plugin.client.sweep import sweep
from cdr_plugin.client.tier import ClientTier
from cdr_plugin.contracts import Verdict
from cdr_plugin.errors import CdrError
from cdr_plugin.files import TEMPORARY_PREFIX, exclusive
from cdr_plugin.model.blobs import BlobType
from cdr_plugin.model.times import time_formatter
from cdr_plugin.model.versions import SnapshotSummary
from cdr_plugin.parcel.builder import SegmentBuilder
from cdr_plugin.parcel.records import Preamble
from cdr_plugin.parcel.segment import Parcel
from cdr_plugin.parcel.version import VERSION_RECORD_FORMAT, VersionRecord, chunker_id, sign_version_record
from cdr_plugin.reporter import Reporter


@dataclass(frozen=True, slots=True)
class BackupOptions:
    """What one run of ``cdr backup`` is asked to do beyond the configuration."""

    archive: ArchiveOptions
    tags: Sequence[str] = ()
    excludes: Sequence[str] = ()
    hostname: str = ""
    time_s: float | None = None
    """When the version was made, in seconds since 1970; None: now."""
    force: bool = False
    skip_if_unchanged: bool = False
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class BackupResult:
    """``version`` is None when none was made: dry run, or nothing changed and that was asked for."""

    version: int | None
    archive: ArchiveResult
    spool: SpoolCounts
    duration_s: float


def backup(
    client: ClientTier,
    options: BackupOptions,
    reporter: Reporter,
    may_send: Callable[[], Verdict] = lambda: Verdict(True),
) -> BackupResult:
    """One version, captured when this returns. NotConvenientError while another run is at it.

    Where the spool is full the run sends, if ``may_send``, else a version that waits makes room; StorageFullError
    when there is none: what was spooled stays known.
    """
    with exclusive(client.state_folder / "backup.lock", f"backup of {client.name}"):
        result = _with_room(client, options, reporter, may_send)
        if result.version is not None:
            with closing(client.baseline()) as baseline:
                baseline.merge([path for _, path in kept_catalogs(client.state)])
        return result


def _with_room(
    client: ClientTier, options: BackupOptions, reporter: Reporter, may_send: Callable[[], Verdict]
) -> BackupResult:
    """Runs until one finds room. Each that does not has cost a version that waited."""
    while True:
        with Streaming(client, lambda: Sender(client, reporter), may_send) as streaming:
            run = _Run(client, options, reporter, Room(client, streaming.send_next))
            try:
                return run.run()
            except SpoolFullError as error:
                why = streaming.failure or "nothing that waits can be sent"
                full = SpoolFullError(f"{error}, and {why}; run 'cdr backup' again when it can be sent")
        if options.archive.stream is not None:
            raise full from None  # what has come through a pipe does not come again
        if not take_back_newest(client, reporter, run.fits_within):
            raise full from None


class _Run:
    def __init__(self, client: ClientTier, options: BackupOptions, reporter: Reporter, room: Room) -> None:
        self.client = client
        self.options = options
        self.reporter = reporter
        self.room = room
        self.started_s = time.time()
        self.state: ClientState = client.state
        self.previous = self.state.newest_version()
        self.number = self.previous.number + 1 if self.previous else 1
        self.generation = self.state.catalog_generation

    def run(self) -> BackupResult:
        sweep(self.client)
        new_catalog = self.client.state_folder / f"{TEMPORARY_PREFIX}catalog"
        if self.options.dry_run:
            return self._dry_run(new_catalog)
        spooler = self._spooler()
        self.counts = spooler.counts
        try:
            result = self._archive(spooler, new_catalog, self._old_catalog())
            if self._unchanged(result):
                spooler.keep()
                return BackupResult(None, result, spooler.counts, time.time() - self.started_s)
            self._capture(spooler, result, new_catalog)
        except (CdrError, KeyboardInterrupt):
            spooler.keep()
            raise
        except BaseException:
            spooler.close()
            raise
        return BackupResult(self.number, result, spooler.counts, time.time() - self.started_s)

    def _dry_run(self, new_catalog: Path) -> BackupResult:
        sink = CountingSink(KnownBlobs(self.state.known()))
        try:
            result = self._archive(sink, new_catalog, self._old_catalog())
        finally:
            new_catalog.unlink(missing_ok=True)
        return BackupResult(None, result, sink.counts, time.time() - self.started_s)

    def fits_within(self, size: int, known: KnownBlobs, old_catalog: Path | None) -> bool:
        """Would a version with only ``known`` blobs before it take at most ``size`` bytes of the spool? As far as
        one can tell: what is left to encode shrinks like what has been encoded."""
        sink, temporary = CountingSink(known), self.client.state_folder / f"{TEMPORARY_PREFIX}catalog"
        try:
            self._archive(sink, temporary, old_catalog)
        finally:
            temporary.unlink(missing_ok=True)
        done = self.counts
        shrunk = done.spooled_bytes / done.data_added if done.spooled_bytes and done.data_added else 1.0
        return sink.counts.data_added * min(shrunk, 1.0) <= size

    def _unchanged(self, result: ArchiveResult) -> bool:
        same = self.previous is not None and self.previous.tree == result.root_tree
        return self.options.skip_if_unchanged and same

    def _spooler(self) -> Spooler:
        ticket = self.client.ticket
        parcel = Parcel.new(self.client.identity.signing, ticket.group, ticket.sealing)
        preamble = Preamble(self.number, self.client.fingerprint, chunker_id(ticket.chunker), f"cdr {__version__}")
        builder = SegmentBuilder(preamble)
        known = KnownBlobs(self.state.known())
        return Spooler(
            self.state,
            self.client.spool,
            parcel,
            builder,
            self.client.encoders,
            known,
            remembering=self.client.remembering(known, self.reporter),
            need=self.room.need,
        )

    def _archive(
        self, sink: Spooler | CountingSink, new_catalog: Path, old_catalog: Path | None
    ) -> ArchiveResult:
        return archive(
            self.options.archive,
            sink,
            splitter=self.client.splitter_factory(),
            old_catalog=None if self.options.force else old_catalog,
            new_catalog=new_catalog,
            reporter=self.reporter,
        )

    def _old_catalog(self) -> Path | None:
        """That of the newest version; before the first one, what was adopted, if anything."""
        path = self.state.catalog_path(self.number - 1, self.generation)
        return path if path.exists() else None

    def _capture(self, spooler: Spooler, result: ArchiveResult, new_catalog: Path) -> None:
        record = self._record(result, spooler.counts)
        signed = sign_version_record(record, self.client.identity.signing)
        catalog = self.state.catalog_path(self.number, self.generation)
        new_catalog.replace(catalog)
        spooler.finish(
            VersionRow(
                self.number,
                signed.body,
                signed.signature,
                signed.hash,
                result.root_tree,
                record.time,
                VersionState.CAPTURED,
                places=Places.of(self.options.archive).to_bytes(),
            )
        )
        remove_old_catalogs(self.state)

    def _record(self, result: ArchiveResult, counts: SpoolCounts) -> VersionRecord:
        now = time_formatter(ZoneInfo(self.client.zone_name))
        started = now(int(self.started_s), int(self.started_s % 1 * 1e9))
        stated_s = self.options.time_s
        ended_s = time.time()
        return VersionRecord(
            format=VERSION_RECORD_FORMAT,
            group=self.client.ticket.group,
            chunker=chunker_id(self.client.ticket.chunker),
            client=self.client.fingerprint,
            number=self.number,
            previous=self.previous.hash if self.previous else b"",
            tree=result.root_tree,
            time=started if stated_s is None else now(int(stated_s), 0),
            paths=list(result.paths),
            hostname=self.options.hostname or platform.node(),
            username=_username(),
            uid=os.getuid(),
            gid=os.getgid(),
            excludes=list(self.options.excludes),
            tags=[tag for tag in self.options.tags if tag],
            program_version=f"cdr {__version__}",
            summary=SnapshotSummary(
                backup_start=started,
                backup_end=now(int(ended_s), int(ended_s % 1 * 1e9)),
                files_new=result.counts.files_new,
                files_changed=result.counts.files_changed,
                files_unmodified=result.counts.files_unmodified,
                dirs_new=result.counts.dirs_new,
                dirs_changed=result.counts.dirs_changed,
                dirs_unmodified=result.counts.dirs_unmodified,
                data_blobs=counts.data_blobs,
                tree_blobs=counts.tree_blobs,
                data_added=counts.data_added,
                data_added_packed=counts.spooled_bytes,
                total_files_processed=result.counts.total_files_processed,
                total_bytes_processed=result.counts.total_bytes_processed,
            ),
        )


class CountingSink:
    """The sink of a dry run: counts what would be sent, keeps nothing."""

    def __init__(self, known: KnownBlobs) -> None:
        self.counts = SpoolCounts()
        self._known = known
        self._lock = threading.Lock()

    def add_many(self, type_: BlobType, blobs: Sequence[NewBlob]) -> None:
        for id_, data, _, _ in blobs:
            with self._lock:
                if self._known.add(type_, id_):
                    self.counts.add(type_, len(data))


def _username() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""
