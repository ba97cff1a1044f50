"""What a client backs up: the configured sources and exclusions, as options of one archive run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo

from cdr_plugin.archiver import ArchiveOptions, ExcludeRules, read_exclude_file
from cdr_plugin.archiver.mapped import Mapped, absolute, is_below
from cdr_plugin.archiver.stream import Stream
from cdr_plugin.archiver.targets import working_directory
from cdr_plugin.config.schema import SourceConfig
from cdr_plugin.tier_state import TierState

_DEVICES = "mapped_devices"
"""Fact of the client's state: mapped path -> the number by which its device is known."""


def archive_options(
    source: SourceConfig,
    *,
    zone: str,
    paths: Sequence[str] = (),
    own: Iterable[Path] = (),
    exclude: Sequence[str] = (),
    exclude_files: Sequence[Path] = (),
    mapped: Sequence[Mapped] = (),
    stream: Stream | None = None,
    with_atime: bool = False,
    ignore_inode: bool = False,
    ignore_ctime: bool = False,
) -> ArchiveOptions:
    """Options for ``source``. ``paths`` replace the configured ones, exclusions add to them; ``own``
    are CDR's own files and folders, which no backup holds, as they are now and in what is mapped."""
    patterns = [*source.exclude, *exclude]
    for path in (*source.exclude_file, *exclude_files):
        patterns += read_exclude_file(path)
    wanted = list(paths) or list(map(str, source.paths))
    return ArchiveOptions(
        paths=[shown_path(os.fsencode(path), mapped) for path in wanted] if mapped else wanted,
        zone=ZoneInfo(zone),
        exclude=ExcludeRules(
            patterns=patterns,
            patterns_ignoring_case=source.iexclude,
            if_present=source.exclude_if_present,
            caches=source.exclude_caches,
            larger_than=source.exclude_larger_than,
        ),
        one_file_system=source.one_file_system,
        own=frozenset(_identities(_also_mapped(own, mapped))),
        mapped=mapped,
        stream=stream,
        with_atime=with_atime,
        ignore_inode=ignore_inode,
        ignore_ctime=ignore_ctime,
    )


def _identities(paths: Iterable[bytes]) -> Iterator[tuple[int, int]]:
    for path in paths:
        try:
            found = os.stat(path)  # noqa: PTH116
        except OSError:
            continue  # not made yet, so not in the way either
        yield found.st_dev, found.st_ino


def _also_mapped(own: Iterable[Path], mapped: Sequence[Mapped]) -> Iterator[bytes]:
    for path in own:
        shown = os.path.realpath(os.fsencode(path))
        yield shown
        for one in mapped:
            if is_below(shown, one.shown):
                yield _moved(shown, one.shown, one.now)


def shown_path(path: bytes, mapped: Sequence[Mapped]) -> bytes:
    """A target as it is to be named: one that tells where something is now gets the path that is shown."""
    found = absolute(path, working_directory())
    if any(is_below(found, one.shown) for one in mapped):
        return path
    below = [one for one in mapped if is_below(found, one.now)]
    if not below:
        return path
    nearest = max(below, key=lambda one: len(one.now))
    return _moved(found, nearest.now, nearest.shown)


def _moved(path: bytes, from_: bytes, to: bytes) -> bytes:
    rest = path[len(from_) :].lstrip(b"/")
    return os.path.join(to, rest) if rest else to


@dataclass(frozen=True, slots=True)
class _Place:
    device: int
    inode: int

    @classmethod
    def at(cls, path: str) -> _Place | None:
        try:
            found = os.lstat(path)
        except OSError:
            return None
        return cls(found.st_dev, found.st_ino)


def mapped_sources(map_: Mapping[str, str], state: TierState) -> list[Mapped]:
    """``source.map`` with the number by which each device is known: chosen when it is first met, kept in the
    client's state. It is that of the file system of which the snapshot was made, so trees stay as they were
    before there was a map."""
    kept: dict[str, int] = json.loads(state.get(_DEVICES) or b"{}")
    new = {shown: device for now, shown in map_.items() if shown not in kept and (device := _device(now, shown))}
    if new:
        kept |= new
        state.put({_DEVICES: json.dumps(kept, sort_keys=True)})
    return [Mapped(os.fsencode(now), os.fsencode(shown), kept.get(shown, 0)) for now, shown in map_.items()]


def _device(now: str, shown: str) -> int:
    """Snapshots keep inodes: equal ones tell that both are one file system. 0 when nothing is there."""
    here, there = _Place.at(now), _Place.at(shown)
    if here is not None and there is not None and here.inode == there.inode:
        return there.device
    return 0 if here is None else here.device
