"""``command``: a command of the user's says so."""

from __future__ import annotations

from typing import Any

from cdr_plugin.contracts import Condition, Occasion, Verdict
from cdr_plugin.errors import ConfigError
from cdr_plugin.model.quantities import show

from .running import Runner, run_silently

LIMIT_S = 30.0
"""Seconds after which the command is ended, and its answer is no."""


class Command(Condition):
    """Run by the shell; exit code 0 is convenient."""

    name = "command"

    def __init__(self, runner: Runner = run_silently) -> None:
        self._run = runner

    def check(self, value: Any) -> None:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ConfigError(f"expected a command, not {show(value)}")

    def ask(self, value: Any, occasion: Occasion) -> Verdict:
        code = self._run(["/bin/sh", "-c", value], LIMIT_S).code
        if code == 0:
            return Verdict(True)
        came = f"no answer within {LIMIT_S:.0f} s" if code is None else f"exit code {code}"
        return Verdict(False, f"waiting for the command {value!r} to agree ({came})")
