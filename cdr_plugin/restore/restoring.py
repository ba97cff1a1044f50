"""Restores a version: walk and make what has no content, fill files, link, then finish folders.

The walk stops at ``WINDOW_ITEMS`` waiting items to write file contents in one reading of the
packs, then goes on; so memory is bounded, and up to that many files each blob is read once.
Folders get their metadata after everything inside them, in post-order, and lose what is to be
deleted just before.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import FormatError, IntegrityError, NotFoundError, UserError
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.trees import Node, blob_id_of
from cdr_plugin.reporter import Reporter
from cdr_plugin.restore.files import FileWriter
from cdr_plugin.restore.folders import Folder, Folders
from cdr_plugin.restore.items import ITEM_ERRORS, Items
from cdr_plugin.restore.leftovers import Leftovers
from cdr_plugin.restore.metadata import Metadata, apply_to_fd
from cdr_plugin.restore.options import Overwrite, RestoreOptions, RestoreSummary
from cdr_plugin.restore.placing import Places
from cdr_plugin.restore.removing import Remover
from cdr_plugin.restore.rules import MetadataRules
from cdr_plugin.restore.selection import Selection
from cdr_plugin.restore.tally import Tally
from cdr_plugin.restore.tools import Tools
from cdr_plugin.restore.trees import Trees
from cdr_plugin.restore.walk import Level

WINDOW_ITEMS = 1 << 15
"""Files, links and folders. A pack holds about 1600 files of 10 KB, so few are read twice. Restoring 98,600 files
peaked at 123 MiB, with four times as many waiting at 160 to 220, restic 0.14 at 125 to 138."""
WINDOW_BLOBS = 1 << 18
"""About 250 bytes each: a quarter of a terabyte of big files."""
MAX_DEPTH = 4096
"""Deeper than any path that a kernel accepts; a hostile tree must not eat descriptors and time."""


def restore(reader: RepositoryReader, root_tree: BlobId, options: RestoreOptions, reporter: Reporter) -> RestoreSummary:
    """Restore the tree into ``options.target``.

    Items that cannot be restored are reported one by one and counted in ``errors``; the rest goes
    on. Raises UserError for an unusable target or pattern, StorageFullError when the target is
    full, RemoteError when the repository cannot be reached, NotFoundError or IntegrityError when
    the root tree itself cannot be read. Whatever happens, no incomplete file has its final name.
    """
    _refuse_dangerous(options)
    tally = Tally(reporter, items=options.report_items)
    selection, rules = Selection(options), MetadataRules(options)
    trees = Trees(reader)
    nodes = trees.load(root_tree, iter(()))
    replaces = options.delete and options.overwrite is not Overwrite.NEVER
    with Folders(options.target, replace_others=replaces, dry_run=options.dry_run) as folders:
        places = Places(options.overwrite, delete=options.delete)
        remover = Remover(folders, selection, tally, protect=options.protect, dry_run=options.dry_run)
        with FileWriter(reader, folders, places, tally, verify=options.verify, sparse=options.sparse) as files:
            tools = Tools(reader, options, rules, selection, folders, places, files, remover, tally)
            with _no_garbage_collection():
                _Restore(tools, trees).walk(nodes)
    return tally.finish()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Looking for cycles, of which a restore makes none, among all that waits in a window took a fourteenth of
    its processor time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _refuse_dangerous(options: RestoreOptions) -> None:
    if options.dry_run and options.verify:
        raise UserError("a dry run restores nothing that could be verified: drop one of the two options")
    filtered = options.include or options.exclude or options.include_ignoring_case or options.exclude_ignoring_case
    if options.delete and not filtered and os.path.realpath(options.target) == "/":
        raise UserError("deleting in / what the version does not hold needs includes or excludes that say where")


class _Left(NamedTuple):
    """A folder that only waits for what is inside; ``names``: all that the version lists there, None
    when nothing may be deleted."""

    folder: Folder
    metadata: Metadata | None
    names: set[bytes] | None


class _Restore:
    """One run of ``restore``."""

    def __init__(self, tools: Tools, trees: Trees) -> None:
        self._tools = tools
        self._trees = trees
        self._folders = tools.folders
        self._tally = tools.tally
        self._items = Items(tools)
        self._stack: list[Level] = []
        self._left: list[_Left] = []
        root_fd = None if self._folders.root.fresh else self._folders.fd(self._folders.root)
        self._leftovers = None if root_fd is None or tools.options.dry_run else Leftovers(root_fd)

    def walk(self, nodes: list[Node]) -> None:
        """Restore everything below the target. A loop over a stack: trees may be deep."""
        root = Level(self._folders.root, None, nodes)
        self._stack.append(root)
        self._sweep(root)
        while self._stack:
            level = self._stack[-1]
            if level.nodes:
                self._visit(level, level.nodes.pop())
                waiting = self._items.waiting + len(self._left)
                if waiting >= WINDOW_ITEMS or self._items.waiting_blobs >= WINDOW_BLOBS:
                    self._flush()
            else:
                self._leave(self._stack.pop())
        self._flush()

    def _visit(self, level: Level, node: Node) -> None:
        try:
            name = level.name_of(node)
        except FormatError as error:
            self._tally.failed(level.folder, node.name[:255].encode("utf-8", "replace"), error)
            return
        wanted, below = self._tools.selection.wants(level.folder, name)
        try:
            if (wanted or below) and level.has_twin(name):
                self._refuse_twin(level)
            if node.type == "dir":
                if below:
                    self._enter(level, name, node, wanted)
            elif wanted and self._ready():
                self._items.plan(level.folder, name, node)
        except ITEM_ERRORS as error:
            self._tally.failed(level.folder, name, error)

    def _refuse_twin(self, level: Level) -> None:
        if self._ready() and self._folders.ignores_case(level.folder):
            raise FormatError(
                "differs from another name only in case, which the file system of the target ignores; "
                "restore it alone (--include) into another folder"
            )

    def _enter(self, level: Level, name: bytes, node: Node, wanted: bool) -> None:
        if level.folder.depth >= MAX_DEPTH:
            raise FormatError(f"more than {MAX_DEPTH} folders deep; not restored")
        metadata = Metadata(node, self._tools.rules)
        id_ = blob_id_of(node.subtree)
        inside = Level(Folder(level.folder, name), metadata, [])
        try:
            inside = Level(inside.folder, metadata, self._trees.load(id_, level.siblings()))
        except (NotFoundError, IntegrityError) as error:
            # The folder itself is known from its parent, so it is still made.
            self._tally.failed(level.folder, name, f"tree {id_.hex()[:10]}, what is inside, is lost: {error}")
            inside.complete = False
        self._stack.append(inside)
        if wanted:
            self._ready()

    def _ready(self) -> bool:
        """Make the folder where the walk is, with parents that nobody asked for until now. When
        one cannot be made, what is below it is passed over."""
        if self._stack[-1].folder.ready:
            return True
        for number, level in enumerate(self._stack):
            if not level.folder.ready:
                try:
                    self._folders.make(level.folder)
                except OSError as error:
                    self._fail_folder(level.folder, error)
                    for lower in self._stack[number:]:
                        lower.nodes.clear()
                    return False
                self._sweep(level)
        return True

    def _sweep(self, level: Level) -> None:
        """Clear what killed restores left, unless the version itself holds such names."""
        if self._leftovers is not None and not level.folder.fresh and not level.has_temporaries:
            self._leftovers.sweep(self._folders.fd(level.folder))

    def _leave(self, level: Level) -> None:
        deletes = self._tools.options.delete and level.complete and not level.folder.fresh
        names = level.seen if deletes else None
        if level.metadata is None:
            # As in restic: a selection that finds nothing in the version deletes nothing.
            if names is not None and self._tally.summary.total_files:
                self._left.append(_Left(level.folder, None, names))
        elif level.folder.ready:
            self._tally.found(0)
            self._left.append(_Left(level.folder, level.metadata, names))

    # --- the end of a window --------------------------------------------------------------------

    def _flush(self) -> None:
        self._items.flush()
        for left in self._left:
            self._finish_folder(left)
        self._left.clear()

    def _finish_folder(self, left: _Left) -> None:
        folder, tools = left.folder, self._tools
        try:
            if left.names is not None:
                tools.remover.remove_others(folder, left.names)
            if left.metadata is None:
                return
            applied = None
            if not tools.options.dry_run:
                clean = folder.inherits or not folder.fresh
                applied = apply_to_fd(self._folders.fd(folder), left.metadata, clean=clean)
            assert folder.parent is not None
            self._tally.restored(folder.parent, folder.name)
            if applied is not None:
                self._tally.applied(folder.parent, folder.name, applied)
        except ITEM_ERRORS as error:
            self._fail_folder(folder, error)
        self._folders.forget(folder)

    def _fail_folder(self, folder: Folder, error: Exception) -> None:
        self._tally.failed(folder.parent or folder, folder.name, error)
