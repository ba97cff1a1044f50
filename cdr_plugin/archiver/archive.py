"""One archive run: walk, read, build trees, write the catalog.

The main thread walks ahead and, folder by folder in the same order, finishes what the readers have
done: a queue of folders in walk order keeps memory bounded, and since subfolders come first, every
subtree is known when its parent is finished.
"""

from __future__ import annotations

import os
import threading
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from itertools import pairwise
from pathlib import Path

from cdr_plugin.archiver.catalog import CatalogReader, CatalogWriter, Facts
from cdr_plugin.archiver.exclude import Excluder, display
from cdr_plugin.archiver.finish import Finisher, Work
from cdr_plugin.archiver.mapped import Locator, clean
from cdr_plugin.archiver.metadata import Accounts, NodeBuilder
from cdr_plugin.archiver.options import ArchiveOptions, ArchiveResult, BlobSink, Counts
from cdr_plugin.archiver.origin import NewBlob
from cdr_plugin.archiver.origins import Origins
from cdr_plugin.archiver.reading import Batch, FileReader, Portion
from cdr_plugin.archiver.stats import FILE, SIZE, positions, sizes
from cdr_plugin.archiver.stream import Nameless
from cdr_plugin.archiver.targets import Place, lay_out, working_directory
from cdr_plugin.archiver.walk import Folder, Walker
from cdr_plugin.contracts import Splitter
from cdr_plugin.errors import FormatError, UserError
from cdr_plugin.model.blobs import BlobId, BlobType, blob_id
from cdr_plugin.model.trees import EMPTY_TREE, link_target_text
from cdr_plugin.reporter import Reporter

_TREE_FORM = 1
"""Counts changes of this program that change tree blobs."""

# One read_files call costs about 10 microseconds besides its files, one add_many some locks.
_BATCH_FILES = 256
_BATCH_BYTES = 4 << 20

_AHEAD_ENTRIES = 20_000
"""Entries of folders that wait to be finished; about 200 bytes each."""

_TREES_BYTES = 1 << 20
"""Tree blobs are handed to the sink in groups of this size."""


def archive(
    options: ArchiveOptions,
    sink: BlobSink,
    *,
    splitter: Callable[[], Splitter],
    old_catalog: Path | None,
    new_catalog: Path,
    reporter: Reporter,
) -> ArchiveResult:
    """Archive the targets; ``splitter`` makes one splitter per thread.

    When this returns, the sink has taken every blob that the old catalog does not name, and
    ``new_catalog`` is complete and durable. An old catalog that is torn or foreign is noted and
    ignored. Items that cannot be read are reported by name and left out.

    Raises UserError when there is nothing to archive or a rule is malformed, and the CdrError that
    the sink raised; then no catalog is left behind.
    """
    errors = _ErrorCount(reporter)
    cwd = os.fsencode(options.cwd) if options.cwd is not None else working_directory()
    locator, stream = Locator(cwd, options.mapped), options.stream
    if stream is None:
        excluder = Excluder(options.exclude, reporter.note)
        targets = _existing(options, locator, errors)
        layout = _layout(targets, locator)
        folders = Walker(options, locator, targets, excluder, errors.report).folders(layout)
    else:
        targets, folders = [stream.path], stream.folders()
    with ExitStack() as stack:
        old, origins = _open_old(old_catalog, reporter), None
        if old is not None and old_catalog is not None:
            stack.enter_context(old)
            origins = stack.enter_context(closing(Origins(old_catalog)))
        accounts = Accounts() if stream is None else Nameless()
        facts = Facts(_form(options), accounts.users, accounts.groups)
        writer = stack.enter_context(CatalogWriter(new_catalog, facts))
        run = _Run(options, sink, splitter, old, origins, writer, accounts, reporter, errors, locator)
        root, counts = run.archive(folders)
        if stream is not None:
            stream.finish(counts.total_bytes_processed)
        writer.finish()
    paths = [_text(locator.shown(target)) for target in targets]
    return ArchiveResult(root_tree=root, paths=paths, counts=counts, errors=errors.count)


@dataclass(slots=True)
class _ErrorCount:
    """Reports items that are left out or doubtful, and counts them. Called by the main thread."""

    reporter: Reporter
    count: int = 0

    def report(self, item: str, why: str) -> None:
        self.count += 1
        self.reporter.error(item, "archival", why)


def _existing(options: ArchiveOptions, locator: Locator, errors: _ErrorCount) -> list[bytes]:
    """The targets that are there, cleaned; the others are reported."""
    found = []
    locator.use_for(map(os.fsencode, options.paths))
    for target in map(os.fsencode, options.paths):
        if not target:
            raise UserError("an empty path cannot be archived; name a file or a folder")
        try:
            os.lstat(locator.opened(target))
            found.append(clean(target))
        except OSError as error:
            errors.report(display(locator.shown(target)), error.strerror or str(error))
    if not found:
        raise UserError("none of the paths to archive exists; nothing was archived")
    return found


def _layout(targets: list[bytes], locator: Locator) -> Place:
    try:
        return lay_out(targets, locator)
    except OSError as error:
        raise UserError(f"{error.filename!r}: cannot be listed: {error.strerror}") from None


def _open_old(path: Path | None, reporter: Reporter) -> CatalogReader | None:
    if path is None:
        return None
    try:
        return CatalogReader(path)
    except FormatError as error:
        reporter.note(f"{error}; all files are read again")
        return None


def _form(options: ArchiveOptions) -> str:
    """Whatever tree blobs depend on besides files and accounts; zones by what they say, not by name."""
    zone = options.zone
    offsets = [_offset(zone, year, month) for year in range(1970, 2040) for month in (1, 7)]
    changes = [f"{i}:{now}" for i, (last, now) in enumerate(pairwise(["", *offsets])) if last != now]
    atimes = "atime" if options.with_atime else "mtime"
    return " ".join([f"{_TREE_FORM} {unicodedata.unidata_version} {atimes} {zone}", *changes])


def _offset(zone: tzinfo, year: int, month: int) -> str:
    return str(datetime(year, month, 1, tzinfo=UTC).astimezone(zone).utcoffset())


def _text(path: bytes) -> str:
    """As restic writes paths into snapshots: bytes that are not UTF-8 become U+FFFD."""
    return link_target_text(path)


@dataclass(slots=True)
class _Trees:
    """Tree blobs on their way to the sink, in groups, by the threads of ``pool``."""

    sink: BlobSink
    pool: ThreadPoolExecutor
    group: list[NewBlob] = field(default_factory=list)
    group_bytes: int = 0
    waiting: deque[Future[None]] = field(default_factory=deque)

    def add(self, tree: NewBlob) -> None:
        self.group.append(tree)
        self.group_bytes += len(tree[1])
        if self.group_bytes >= _TREES_BYTES:
            self._submit()

    def _submit(self) -> None:
        self.waiting.append(self.pool.submit(self.sink.add_many, BlobType.TREE, self.group))
        self.group, self.group_bytes = [], 0
        while len(self.waiting) > 4:
            self.waiting.popleft().result()

    def flush(self) -> None:
        if self.group:
            self._submit()
        while self.waiting:
            self.waiting.popleft().result()


class _Run:
    """The state of one run. ``archive`` is called once, by the main thread."""

    def __init__(
        self,
        options: ArchiveOptions,
        sink: BlobSink,
        splitter: Callable[[], Splitter],
        old: CatalogReader | None,
        origins: Origins | None,
        writer: CatalogWriter,
        accounts: Accounts,
        reporter: Reporter,
        errors: _ErrorCount,
        locator: Locator,
    ) -> None:
        self._options = options
        self._old = old
        self._queue: deque[Work] = deque()
        self._ahead = 0
        self._batch = Batch()
        self._stop = threading.Event()
        threads = max(2, len(os.sched_getaffinity(0)))
        self._readers = ThreadPoolExecutor(threads, "cdr-read")
        self._hashers = ThreadPoolExecutor(threads, "cdr-hash")
        self._reader = FileReader(sink, splitter, self._hashers, self._stop, threads, origins, locator.stable)
        self._trees = _Trees(sink, self._readers)
        self._finisher = Finisher(
            nodes=NodeBuilder(options.zone, accounts, reporter.note),
            writer=writer,
            add_tree=self._trees.add,
            report=errors.report,
            reporter=reporter,
            keep_trees=self._old_trees_hold(writer.facts, accounts),
            origins=origins,
        )

    def _old_trees_hold(self, facts: Facts, accounts: Accounts) -> bool:
        """Would the trees of the old catalog be the same if they were built today?"""
        if self._old is None or self._options.with_atime or self._old.facts.form != facts.form:
            return False
        users = {uid: accounts.user(uid) for uid in self._old.facts.users}
        groups = {gid: accounts.group(gid) for gid in self._old.facts.groups}
        return users == self._old.facts.users and groups == self._old.facts.groups

    def archive(self, folders: Iterable[Folder]) -> tuple[BlobId, Counts]:
        """The root tree and what was counted."""
        try:
            for folder in folders:
                self._plan(folder)
            while self._queue:
                self._finish_first()
            self._trees.flush()
            if self._finisher.root == blob_id(EMPTY_TREE):
                raise UserError("nothing is left to archive: every path is excluded or could not be read")
        finally:
            self._stop.set()
            self._readers.shutdown(cancel_futures=True)
            self._hashers.shutdown(cancel_futures=True)
        return self._finisher.root, self._finisher.counts

    def _plan(self, folder: Folder) -> None:
        """Find out what must be read in a folder, submit that, and queue the folder."""
        old = self._old.find(folder.key) if self._old is not None else None
        work = Work(folder, old)
        if not work.same:
            self._read_changed(work)
        self._queue.append(work)
        self._ahead += len(folder.names) + 1
        while self._queue and (self._queue[0].ready or self._ahead > _AHEAD_ENTRIES):
            self._finish_first()

    def _read_changed(self, work: Work) -> None:
        folder = work.folder
        if FILE not in folder.kinds:
            return
        all_sizes = sizes(folder.stats)
        small = self._reader.small if folder.paths is None else -1
        portion = Portion(folder, work.readings, work.old_entries)
        for i in positions(folder.kinds, FILE):
            name, record, size = folder.names[i], folder.stats[SIZE * i : SIZE * i + SIZE], all_sizes[i]
            if work.old_entries and work.keeps_content(name, record, self._options):
                continue
            if size > small:
                self._submit_stream(work, name, record)
                continue
            if self._batch.files >= _BATCH_FILES or self._batch.bytes + size > _BATCH_BYTES:
                self._close_portion(work, portion)
                self._submit_batch()
                portion = Portion(folder, work.readings, work.old_entries)
            portion.names.append(name)
            portion.stats.append(record)
            portion.sizes.append(size)
            self._batch.files += 1
            self._batch.bytes += size
        self._close_portion(work, portion)

    def _close_portion(self, work: Work, portion: Portion) -> None:
        if portion.names:
            self._batch.portions.append(portion)
            work.batches.append(self._batch)

    def _submit_batch(self) -> None:
        batch, self._batch = self._batch, Batch()
        batch.future = self._readers.submit(self._reader.read, batch)

    def _submit_stream(self, work: Work, name: bytes, record: bytes) -> None:
        batch = Batch()
        batch.future = self._readers.submit(
            self._reader.stream, work.folder, name, record, work.readings, work.old_entries.get(name)
        )
        work.batches.append(batch)

    def _finish_first(self) -> None:
        work = self._queue.popleft()
        for batch in work.batches:
            if batch.future is None:
                self._submit_batch()
            assert batch.future is not None
            batch.future.result()
        self._finisher.finish(work)
        self._ahead -= len(work.folder.names) + 1
