"""What a client backs up: the configured sources and exclusions, as options of one archive run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

from cdr_plugin.archiver import ArchiveOptions, ExcludeRules, read_exclude_file
from cdr_plugin.config.schema import SourceConfig
from cdr_plugin.errors import UserError
from cdr_plugin.reporter import Reporter


def archive_options(
    source: SourceConfig,
    *,
    zone: str,
    paths: Sequence[str] = (),
    own: Iterable[Path] = (),
    exclude: Sequence[str] = (),
    exclude_files: Sequence[Path] = (),
    with_atime: bool = False,
    ignore_inode: bool = False,
    ignore_ctime: bool = False,
) -> ArchiveOptions:
    """Options for ``source``. ``paths`` replace the configured ones, exclusions add to them; ``own``
    are CDR's own files and folders, which no backup holds."""
    patterns = [*source.exclude, *exclude]
    for path in (*source.exclude_file, *exclude_files):
        patterns += read_exclude_file(path)
    return ArchiveOptions(
        paths=list(paths) or list(source.paths),
        zone=ZoneInfo(zone),
        exclude=ExcludeRules(
            patterns=patterns,
            patterns_ignoring_case=source.iexclude,
            if_present=source.exclude_if_present,
            caches=source.exclude_caches,
            larger_than=source.exclude_larger_than,
        ),
        one_file_system=source.one_file_system,
        own=frozenset(_identities(own)),
        with_atime=with_atime,
        ignore_inode=ignore_inode,
        ignore_ctime=ignore_ctime,
    )


def _identities(paths: Iterable[Path]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            found = path.stat()
        except OSError:
            continue  # not made yet, so not in the way either
        yield found.st_dev, found.st_ino


@contextmanager
def commands_around(before: str | None, after: str | None, reporter: Reporter) -> Iterator[None]:
    """Run ``before``; if it fails, raise UserError: there is to be no version. ``after`` always runs."""
    try:
        if before is not None and (code := _shell(before)) != 0:
            raise UserError(f"the command before the backup failed ({code}): {before}; no version was made")
        yield
    finally:
        if after is not None and (code := _shell(after)) != 0:
            reporter.note(f"the command after the backup failed ({code}): {after}")


def _shell(command: str) -> int:
    return subprocess.run(command, shell=True, check=False).returncode
