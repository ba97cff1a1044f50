"""A whole hierarchy in one new folder, for a first look: configuration, folders, password."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cdr_plugin.errors import StorageFullError, UserError
from cdr_plugin.files import write_durably

_CONFIG = """\
# A demonstration: three tiers in one folder of one machine. On real hosts each tier has a file of
# its own, and 'forward.to' and 'receive.inbox' name shared storage.

[tier.laptop]                       # a client: makes versions, offline if need be
group = "demo"
state = "laptop/state"
identity = "laptop/identity"
[tier.laptop.source]
paths = {paths}
exclude = {exclude}
[tier.laptop.forward]
to = "file:branch/inbox"

[tier.branch]                       # an intermediate tier: moves sealed segments, holds no key
state = "branch/state"
identity = "branch/identity"
[tier.branch.receive]
inbox = "file:branch/inbox"
[tier.branch.forward]
to = "file:hq/inbox"

[tier.hq]                           # the top tier: verifies every blob, writes the restic repository
state = "hq/state"
identity = "hq/identity"
[tier.hq.group.demo]
[tier.hq.receive]
inbox = "file:hq/inbox"
[tier.hq.store]
format = "restic"
repository = "hq/repository"
password_file = "hq/password"
"""

_SPARE_BYTES = 64 * 1024 * 1024


def prepare(folder: Path, sources: Sequence[Path]) -> Path:
    """Make ``folder`` with configuration and password; the configuration's path.

    UserError when the folder is in use or a source is not there, StorageFullError when its file
    system has no room for the repository and what waits on the way.
    """
    _check_sources(sources)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: in use; choose another place with --at, or remove it")
    made = not folder.exists()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        _check_room(folder, sources)
    except StorageFullError:
        if made:
            folder.rmdir()
        raise
    for name in ("branch/inbox", "hq/inbox"):
        (folder / name).mkdir(parents=True)
    write_durably(folder / "hq" / "password", f"{secrets.token_urlsafe(24)}\n".encode())
    config = folder / "cdr.toml"
    # A JSON list of strings is a TOML array too; the folder itself is never part of its own backup.
    paths, exclude = json.dumps([str(path) for path in sources]), json.dumps([_escaped(folder)])
    write_durably(config, _CONFIG.format(paths=paths, exclude=exclude).encode(), mode=0o644)
    return config


def _escaped(path: Path) -> str:
    """A pattern that matches ``path`` alone."""
    return "".join(f"\\{char}" if char in "\\*?[" else char for char in str(path))


def _check_sources(sources: Sequence[Path]) -> None:
    for path in sources:
        try:
            str(path).encode("utf-8")
            path.lstat()
        except UnicodeEncodeError:
            raise UserError(
                f"{path!r}: its name is not UTF-8 and cannot stand in a configuration; name its parent"
            ) from None
        except OSError as error:
            raise UserError(f"source {path}: {error.strerror}") from None


def _check_room(folder: Path, sources: Sequence[Path]) -> None:
    needed = 2 * sum(_sizes(sources)) + _SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise StorageFullError(
            f"{folder}: {free >> 20} MiB free, up to {needed >> 20} MiB may be needed; "
            "choose smaller sources, or another place with --at"
        )


def _sizes(paths: Iterable[Path]) -> Iterator[int]:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            for parent, _, names in os.walk(path):
                yield from (_size(Path(parent) / name) for name in names)
        else:
            yield _size(path)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0
