"""``cdr mount``: browse the repository as a file system."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from cdr_plugin.cli.context import Context
from cdr_plugin.cli.repositories import (
    add_filter_arguments,
    add_repository_arguments,
    matches,
    open_repositories,
)
from cdr_plugin.contracts import StoredVersion
from cdr_plugin.errors import UserError
from cdr_plugin.top.pins import is_pin

HELP = """Show all versions as files below an existing folder, read-only, by ID, time, host and tag, until
Ctrl-C or 'umount'. New versions appear within half a minute. Needs Linux with FUSE, and the extra
'mount'."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mountpoint", metavar="DIR", type=Path)
    parser.add_argument("--allow-other", action="store_true", help="let other users look, as their permissions allow")
    parser.add_argument(
        "--no-default-permissions", action="store_true", help="with --allow-other: let them read everything"
    )
    parser.add_argument("--owner-root", action="store_true", help="show root as the owner of everything")
    add_repository_arguments(parser)
    add_filter_arguments(parser)


def run(context: Context) -> int:
    from cdr_plugin.mount.filesystem import VersionFiles
    from cdr_plugin.mount.fuse import load_binding, serve
    from cdr_plugin.mount.source import Source

    options, output = context.options, context.output
    mountpoint = options.mountpoint.expanduser().absolute()
    if not mountpoint.is_dir():
        raise UserError(f"{options.mountpoint} is no folder; make it, then mount on it")
    binding = load_binding()

    def wanted(version: StoredVersion) -> bool:
        return matches(version, options) and not is_pin(version.snapshot)

    def ready() -> None:
        output.line(f"serving repository {repositories[0].location} at {options.mountpoint}")
        output.line("end with Ctrl-C here, or unmount that folder")
        output.document({"message_type": "mounted", "mountpoint": str(mountpoint)})
        sys.stdout.flush()

    with _term_unwinds(), ExitStack() as stack:
        repositories = [stack.enter_context(closing(r)) for r in open_repositories(context)]
        if len(repositories) != 1:
            raise UserError(f"{len(repositories)} repositories are meant; choose one with -T and --group")
        source = stack.enter_context(Source(repositories[0], wanted, output))
        files = stack.enter_context(closing(VersionFiles(source, output, owner_root=options.owner_root)))
        serve(
            binding,
            files,
            mountpoint,
            ready,
            allow_other=options.allow_other,
            default_permissions=options.allow_other and not options.no_default_permissions,
        )
    return 0


@contextmanager
def _term_unwinds() -> Iterator[None]:
    """SIGTERM before and after the mount gives the lock back too, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
