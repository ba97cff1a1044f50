"""The repository that a command looks into: named by options or variables, else by the configuration."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from cdr_plugin.assembly import groups_of, is_reducing, reducing_tiers, repository_options
from cdr_plugin.contracts import Repository, RepositoryReader, StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.names import quote_name
from cdr_plugin.model.times import parse_time
from cdr_plugin.model.trees import decode_tree
from cdr_plugin.retention.tags import has_any_list, split_tags
from cdr_plugin.top.pins import is_pin

from .context import Context
from .repository_arguments import add_repository_arguments as add_repository_arguments
from .repository_arguments import adjusted, given_location, given_options

SHORTEST_PREFIX = 4


def open_repositories(context: Context) -> Iterator[Repository]:
    """Every repository that is meant, opened; the caller closes each."""
    for _, open_ in repositories_to_open(context):
        yield open_()


def repositories_to_open(context: Context) -> Iterator[tuple[str, Callable[[], Repository]]]:
    """Location and opener of every repository that is meant, for callers whom the trouble of one does
    not keep from the others."""
    _ignore_hangup()
    given = context.options
    location = given_location(given)
    if location is not None:
        options = given_options(given, context.output)
        yield location, partial(context.plugins.repository_format("restic").open, location, options)
        return
    stores = [tier for tier in context.tiers if tier.store is not None]
    if not stores:
        yield from _retained_to_open(context)
        return
    for tier in stores:
        assert tier.store is not None
        for group in groups_of(context.config, tier):
            if given.group in (None, group):
                options = repository_options(tier.store, group, tier.state / group / "repository", context.output)
                format_ = context.plugins.repository_format(tier.store.format)
                location = tier.store.repository_of(group)
                yield location, partial(format_.open, location, adjusted(options, given))


def _retained_to_open(context: Context) -> Iterator[tuple[str, Callable[[], Repository]]]:
    """Without a top tier among those chosen: the versions that intermediate tiers keep."""
    tiers = [tier for tier in context.tiers if is_reducing(tier, context.plugins)]
    if not tiers:
        raise UserError("no repository: name one with -r LOCATION, or a configuration with a top tier (-c, -T)")
    for config in tiers:
        for tier in reducing_tiers(context.config, config, context.plugins, context.output):
            if context.options.group in (None, tier.group):
                yield tier.repository, tier.open_repository


def open_one_repository(context: Context) -> Repository:
    """The one repository that is meant, opened; the caller closes it. UserError when several are."""
    meant = list(repositories_to_open(context))
    if len(meant) != 1:
        named = ", ".join(location for location, _ in meant) or "none"
        raise UserError(f"this needs one repository, and these are meant: {named}; choose with -r, -T or --group")
    return meant[0][1]()


def _ignore_hangup() -> None:
    """As restic does: 'restic unlock' sends this signal to ask whether the process of a lock lives."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def add_filter_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--client", "--host", "-H", dest="hosts", action="append", default=[], metavar="NAME")
    parser.add_argument("--path", dest="paths", action="append", default=[], metavar="PATH")
    parser.add_argument("--tag", dest="tags", action="append", default=[], metavar="TAG[,TAG]")


@dataclass(frozen=True, slots=True)
class Chosen:
    """One version of one repository, or a folder inside it."""

    repository: Repository
    version: StoredVersion
    folder: str = ""

    def tree(self, reader: RepositoryReader) -> BlobId:
        """The tree of the version or of the folder; UserError when there is no such folder."""
        tree = BlobId(bytes.fromhex(self.version.snapshot.tree))
        return folder_tree(reader, tree, self.folder, self.version.id[:8])


def folder_tree(reader: RepositoryReader, tree: BlobId, folder: str, version: str) -> BlobId:
    """The tree of a folder inside of ``tree``, which is that of ``version``; UserError when there is none."""
    for name in filter(None, folder.split("/")):
        wanted = quote_name(os.fsencode(name))
        nodes = decode_tree(reader.read(BlobType.TREE, tree))
        subtrees = [node.subtree for node in nodes if node.name == wanted and node.subtree]
        if not subtrees:
            raise UserError(f"version {version} has no folder {folder!r}")
        tree = BlobId(bytes.fromhex(subtrees[0]))
    return tree


def choose_version(repositories: Sequence[Repository], text: str, options: argparse.Namespace) -> Chosen:
    """The one version that ``text`` means: an ID, the start of one, or ``latest`` among those that
    the filter options leave; with ``:/folder`` behind it, a folder inside. UserError."""
    name, _, folder = text.partition(":")
    versions = [Chosen(r, v, folder) for r in repositories for v in r.versions() if not is_pin(v.snapshot)]
    if name == "latest":
        found = [chosen for chosen in versions if matches(chosen.version, options)]
        if not found:
            raise UserError("no version fits; see 'cdr snapshots'")
        return max(found, key=lambda chosen: parse_time(chosen.version.snapshot.time))
    found = [chosen for chosen in versions if chosen.version.id.startswith(name)]
    if len(found) != 1 or len(name) < SHORTEST_PREFIX:
        problem = "no version" if not found else "more than one version" if len(found) > 1 else "too short an ID"
        raise UserError(f"{name!r}: {problem}; see 'cdr snapshots'")
    return found[0]


def matches(version: StoredVersion, options: argparse.Namespace) -> bool:
    """restic's rules: one of the hosts, all of the paths, all tags of one of the lists."""
    snapshot = version.snapshot
    return (
        (not options.hosts or snapshot.hostname in options.hosts)
        and all(path in snapshot.paths for path in options.paths)
        and (not options.tags or has_any_list(snapshot, map(split_tags, options.tags)))
    )
