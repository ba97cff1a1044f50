"""``cdr find``: look for names, or for what blobs, trees and packs belong to, in all versions."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Any, TypeAlias, TypeVar

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.output import Output
from cdr_plugin.cli.repositories import (
    add_filter_arguments,
    add_repository_arguments,
    choose_version,
    matches,
    open_repositories,
)
from cdr_plugin.contracts import Repository, RepositoryReader, StoredVersion
from cdr_plugin.errors import CdrError, UserError
from cdr_plugin.look.describe import found_object, local_time, long_line
from cdr_plugin.look.find import NameSearch, Wanted, parse_moment
from cdr_plugin.look.objects import FoundObject, Ids, ObjectSearch, check_prefix
from cdr_plugin.look.walk import BROKEN, shown
from cdr_plugin.model.blobs import BlobId, BlobType
from cdr_plugin.model.trees import Node, blob_id_of
from cdr_plugin.top.pins import is_pin

HELP = """Look for names in all versions, or in those that --snapshot, --client, --path and --tag leave. A
PATTERN such as '*.pdf' matches at any depth, one that begins with a slash from the root; a folder that
matches counts with all that it holds. With --blob, --tree or --pack, PATTERN is an ID or the start of
one, and the answer is which files and folders of which versions use it."""

_KINDS = {BlobType.DATA: "blob", BlobType.TREE: "tree"}

_T = TypeVar("_T")
_Add: TypeAlias = Callable[[object], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patterns", metavar="PATTERN", nargs="+")
    parser.add_argument("--ignore-case", "-i", action="store_true", help="capital letters match small ones")
    parser.add_argument("--oldest", "-O", metavar="TIME", help="only what was changed then or later")
    parser.add_argument("--newest", "-N", metavar="TIME", help="only what was changed then or before")
    parser.add_argument("--long", "-l", action="store_true", help="show mode, owner, size and time")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--blob", action="store_true", help="PATTERN is the ID of a blob of files")
    kinds.add_argument("--tree", action="store_true", help="PATTERN is the ID of a tree")
    kinds.add_argument("--pack", action="store_true", help="PATTERN is the ID of a pack")
    parser.add_argument("--show-pack-id", action="store_true", help="with one of these: tell the pack of each, too")
    parser.add_argument(
        "--snapshot", "-s", dest="snapshots", metavar="VERSION", action="append", default=[], help="search this one"
    )
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    options, output = context.options, context.output
    by_id = options.blob or options.tree or options.pack
    wanted = _wanted(options)
    with ExitStack() as stack:
        repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
        add = stack.enter_context(output.array())
        for repository, versions in _chosen(repositories, options, pins=by_id):
            with repository.reading() as reader:
                if by_id:
                    _find_objects(options, output, add, reader, versions)
                else:
                    _find_names(NameSearch(reader, wanted, _report(output)), options, output, add, versions)
    return 1 if output.errors else 0


def _wanted(options: argparse.Namespace) -> Wanted:
    return Wanted(
        options.patterns,
        options.ignore_case,
        parse_moment(options.oldest) if options.oldest else None,
        parse_moment(options.newest) if options.newest else None,
    )


def _chosen(
    repositories: Sequence[Repository], options: argparse.Namespace, *, pins: bool
) -> Iterator[tuple[Repository, Sequence[StoredVersion]]]:
    """The versions to search, by repository, oldest first. Pins hold no files, but use blobs."""
    if options.snapshots:
        named = [choose_version(repositories, text, options) for text in options.snapshots]
        if any(chosen.folder for chosen in named):
            raise UserError("--snapshot takes a whole version; begin the pattern with the folder instead")
        for repository in repositories:
            versions = {one.version.id: one.version for one in named if one.repository is repository}
            if versions:
                yield repository, list(versions.values())
        return
    for repository in repositories:
        yield repository, [v for v in repository.versions() if matches(v, options) and (pins or not is_pin(v.snapshot))]


def _report(output: Output) -> Callable[[str, CdrError], None]:
    return lambda path, error: output.error(path, "find", error)


def _hits(search: Callable[[BlobId], Iterator[_T]], version: StoredVersion, output: Output) -> Iterator[_T]:
    """What ``search`` finds in a version; one whose root cannot be read does not keep it from others."""
    try:
        yield from search(blob_id_of(version.snapshot.tree))
    except BROKEN as error:
        output.error(f"version {version.id[:8]}", "find", error)


# --- names --------------------------------------------------------------------------------------


def _find_names(
    search: NameSearch, options: argparse.Namespace, output: Output, add: _Add, versions: Sequence[StoredVersion]
) -> None:
    before = ""
    show = found_object if output.as_json else long_line if options.long else _path
    for version in versions:
        found: list[Any] = [show(path, node) for path, node in _hits(search.search, version, output)]
        if found:
            when = local_time(version.snapshot.time)
            output.line(f"{before}Found matching entries in version {version.id[:8]} from {when}")
            output.lines(found if not output.as_json else ())
            add({"matches": found, "hits": len(found), "snapshot": version.id})
            before = "\n"


def _path(path: str, node: Node) -> str:
    return path


# --- blobs, trees and packs -----------------------------------------------------------------------


def _find_objects(
    options: argparse.Namespace,
    output: Output,
    add: _Add,
    reader: RepositoryReader,
    versions: Sequence[StoredVersion],
) -> None:
    blobs, trees = _ids(options, reader)
    search = ObjectSearch(reader, Ids(blobs), Ids(trees), _report(output))
    for version in versions:
        for found in _hits(search.search, version, output):
            pack = ""
            if options.show_pack_id:
                pack = reader.pack_of(found.type, BlobId(bytes.fromhex(found.id))) or ""
            add(_as_json(found, version, pack))
            output.line(_in_words(found, version, pack))


def _ids(options: argparse.Namespace, reader: RepositoryReader) -> tuple[list[str], list[str]]:
    """Blobs and trees to look for; UserError for what is no ID."""
    if options.blob:
        return options.patterns, []
    if options.tree:
        return [], options.patterns
    held = [blob for prefix in options.patterns for blob in reader.blobs_of_pack(check_prefix(prefix))]
    return (
        [id_.hex() for type_, id_ in held if type_ is BlobType.DATA],
        [id_.hex() for type_, id_ in held if type_ is BlobType.TREE],
    )


def _as_json(found: FoundObject, version: StoredVersion, pack: str) -> dict[str, str]:
    fields = {"object_type": _KINDS[found.type], "id": found.id, "path": shown(found.path)}
    if found.parent:
        fields["parent_tree"] = found.parent
    if pack:
        fields["pack"] = pack
    return {**fields, "snapshot": version.id, "time": version.snapshot.time}


def _in_words(found: FoundObject, version: StoredVersion, pack: str) -> str:
    when = local_time(version.snapshot.time)
    path = found.path.replace("\n", "\\n")
    place = f" ... path {path}" if not found.parent else f" ... in file {path}\n     (tree {found.parent})"
    in_pack = f"\n ... in pack {pack}" if pack else ""
    return f"Found {_KINDS[found.type]} {found.id}\n{place}\n ... in version {version.id[:8]} ({when}){in_pack}"
