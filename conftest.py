"""Tests keep what they back up apart from everybody's temporary files.

Trees hold the times of all folders above their files. restic and other tests make and remove files in
the temporary folder all the time, so a tree below that folder would differ from one minute to the next.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

_APART = "CDR_TESTS_FOLDER"
"""Set by the process that starts first; the workers of pytest-xdist inherit it."""
_owner = _APART not in os.environ

if _owner:
    _folder = Path(tempfile.mkdtemp(prefix="cdr-tests-"))
    _folder.chmod(0o755)  # some tests act as an ordinary user
    for _name in ("apart", "scratch"):
        (_folder / _name).mkdir()
    os.environ |= {
        _APART: str(_folder),
        "PYTEST_DEBUG_TEMPROOT": str(_folder / "apart"),
        "TMPDIR": str(_folder / "scratch"),
    }
    tempfile.tempdir = None  # asked for again, with the new TMPDIR

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts something in the background has it ignore Ctrl-C, and whatever that starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_sessionfinish(exitstatus: int) -> None:
    """What failed tests leave is kept to be looked at."""
    if _owner and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        shutil.rmtree(os.environ[_APART], ignore_errors=True)
