"""Commands without a process for each: the same ``main``, with the folder, environment and streams of the shell."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from functools import partial
from unittest import mock

import pytest

from cdr_plugin.cli.main import main
from cdr_restic.locks import LockTimes
from tests.restic.world import QUICK

from .command import Argument, Done, Shell


def run_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on ``Shell.cdr`` starts no process; keys of new repositories are quick, locks do not wait."""
    monkeypatch.setattr(Shell, "cdr", _cdr)
    monkeypatch.setattr("cdr_restic.creating.measured_scrypt", lambda: QUICK)
    monkeypatch.setattr("cdr_restic.repository.LockTimes", partial(LockTimes, settle_s=0))


def _cdr(self: Shell, *arguments: Argument, code: int = 0, **variables: str) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(self.folder),
        mock.patch.dict(os.environ, self.environment(**variables), clear=True),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        found = main([str(argument) for argument in arguments])
    assert found == code, f"{arguments}: {found}\n{out.getvalue()[-2000:]}\n{err.getvalue()[-2000:]}"
    return Done(found, out.getvalue(), err.getvalue())
