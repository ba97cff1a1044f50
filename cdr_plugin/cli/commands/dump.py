"""``cdr dump``: write a file, or a folder as an archive, to standard output or into a file."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import BinaryIO

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import (
    add_filter_arguments,
    add_repository_arguments,
    choose_version,
    open_repositories,
)
from cdr_plugin.contracts import RepositoryReader
from cdr_plugin.errors import CdrError, UserError
from cdr_plugin.files import storage_error, sync_folder
from cdr_plugin.look.contents import Content, stream
from cdr_plugin.look.locate import locate
from cdr_plugin.look.members import members
from cdr_plugin.look.tar import write_tar
from cdr_plugin.look.zip import write_zip
from cdr_plugin.model.blobs import BlobId
from cdr_plugin.model.trees import Node, blob_id_of

HELP = """Write one file of a version to standard output or to --target, or a folder as a tar or zip archive;
'/' is the whole version. VERSION is an ID, the start of one, or 'latest'; VERSION:/folder begins at a
folder. 'tar --xattrs --xattrs-include=* --acls -xpf' brings back all that an archive holds."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", metavar="VERSION[:FOLDER]")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--archive", "-a", choices=("tar", "zip"), default="tar", help="for folders (default: tar)")
    parser.add_argument("--target", "-t", type=Path, metavar="FILE", help="write into this file")
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    options = context.options
    with ExitStack() as stack:
        repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
        chosen = choose_version(repositories, options.version, options)
        reader = stack.enter_context(chosen.repository.reading())
        root = chosen.tree(reader)
        node = locate(reader, root, options.path)
        if node is not None and node.type not in ("file", "dir"):
            raise UserError(f"{options.path} is a {node.type}, neither file nor folder; 'cdr restore' brings it back")
        is_folder = node is None or node.type == "dir"
        if options.target is None and is_folder and sys.stdout.isatty():
            raise UserError("an archive is nothing for a terminal: redirect it, or name a file with --target")
        sink = stack.enter_context(_target(options.target.expanduser()) if options.target else _standard_output())
        if node is not None and node.type == "file":
            _write_file(reader, node, sink)
        else:
            _write_archive(context, reader, root if node is None else blob_id_of(node.subtree), node, sink)
    return 1 if context.output.errors else 0


def _write_file(reader: RepositoryReader, node: Node, sink: BinaryIO) -> None:
    for _, data in stream(reader, [(node, Content(reader, node))]):
        sink.write(data)


def _write_archive(
    context: Context, reader: RepositoryReader, tree: BlobId, folder: Node | None, sink: BinaryIO
) -> None:
    output, options = context.output, context.options

    def report(path: str, error: CdrError) -> None:
        output.error(path, "dump", error)

    path = "/" + "/".join(filter(None, options.path.split("/")))
    inside = members(reader, tree, path, folder, report)
    if options.archive == "zip":
        write_zip(reader, inside, sink, report, output.note)
    else:
        write_tar(reader, inside, sink, report)


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _target(target: Path) -> Iterator[BinaryIO]:
    """A new file takes its name when it is complete and durable, in place of a file that had it; a
    device or a FIFO is written into. UserError, and errors of a full disk."""
    try:
        if target.exists() and not target.is_file():
            with target.open("wb") as special:
                yield special
            return
        fd, name = tempfile.mkstemp(prefix=f".{target.name[:200]}.", dir=target.parent)
    except OSError as error:
        raise UserError(f"cannot write {target}: {error.strerror}; choose another --target") from None
    temporary = Path(name)
    try:
        with os.fdopen(fd, "wb", buffering=1 << 20) as file:
            yield file
            file.flush()
            os.fchmod(fd, 0o666 & ~_umask())
            os.fsync(fd)
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise storage_error(target, error) from None
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
