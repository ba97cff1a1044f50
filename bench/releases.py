"""Releases of a real project, one after the other: wheels of Django, which are zip archives of its sources.

pip fetches them once; they are never run or installed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from bench.measure import BenchError

RELEASES = ("4.0", "4.1", "4.2", "5.0", "5.1", "5.2")
CACHE = Path(tempfile.gettempdir()) / "cdr-bench-releases"


def unpack_release(release: str, target: Path) -> None:
    """The files of a release in ``target``. BenchError when it cannot be had."""
    with zipfile.ZipFile(_wheel(release)) as archive:
        archive.extractall(target)


def _wheel(release: str) -> Path:
    if _fetched(release) is None:
        _fetch(release)
    if (found := _fetched(release)) is None:
        raise BenchError(f"pip fetched Django {release}, but no wheel of it is in {CACHE}")
    return found


def _fetched(release: str) -> Path | None:
    """Wheels are spelled Django in some releases, django in others."""
    return next(CACHE.glob(f"[Dd]jango-{release}-*.whl"), None)


def _fetch(release: str) -> None:
    options = ["-q", "--disable-pip-version-check", "--no-deps", "--ignore-requires-python", "--only-binary=:all:"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(CACHE), f"django=={release}"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise BenchError(f"Django {release} cannot be fetched, without which there is no set src: {last}")
