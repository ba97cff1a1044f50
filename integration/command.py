"""The real ``cdr`` and the real ``restic``, each run as a user would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

CDR = Path(sys.executable).with_name("cdr")
"""The command of the environment that runs the tests."""

Argument: TypeAlias = str | Path

_FOREIGN = ("RESTIC_", "CDR_", "XDG_")
"""Variables of whoever runs the tests that would change what is tested."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left: exit code and what it said."""

    code: int
    out: str
    err: str

    @property
    def documents(self) -> list[Any]:
        """Every line of standard output, as JSON."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def summary(self) -> dict[str, Any]:
        """The last line; fails unless it is the one summary."""
        *others, last = self.documents
        assert last["message_type"] == "summary", last
        assert all(other["message_type"] == "status" for other in others)
        return dict(last)

    @property
    def error(self) -> str:
        """The one line on standard error, without the program's name; fails when there are more."""
        (line,) = self.err.splitlines()
        assert line.startswith("cdr: "), line
        return line.removeprefix("cdr: ")


@dataclass(frozen=True, slots=True)
class Shell:
    """Runs commands in ``folder``, which is also the home of the user; standard input is empty."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    """What the command is run by, such as ``setpriv``."""

    def cdr(self, *arguments: Argument, code: int = 0, **variables: str) -> Done:
        return self.run(CDR, *arguments, code=code, **variables)

    def json(self, *arguments: Argument, code: int = 0, **variables: str) -> dict[str, Any]:
        """The summary that the command prints with ``--json``."""
        return self.cdr(*arguments, "--json", code=code, **variables).summary

    def restic(self, *arguments: Argument, code: int = 0, **variables: str) -> Done:
        """Without its cache: every byte comes from the repository."""
        return self.run("restic", "--no-cache", *arguments, code=code, **variables)

    def run(self, *command: Argument, code: int = 0, **variables: str) -> Done:
        """Fails unless the command exits with ``code``."""
        finished = subprocess.run(
            [*self.before, *map(str, command)],
            cwd=self.folder,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        done = Done(
            finished.returncode,
            finished.stdout.decode("utf-8", "surrogateescape"),
            finished.stderr.decode("utf-8", "surrogateescape"),
        )
        assert done.code == code, f"{command}: {done.code}\n{done.out[-2000:]}\n{done.err[-2000:]}"
        return done

    def environment(self, **variables: str) -> dict[str, str]:
        own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        return {**own, "HOME": str(self.folder), "TZ": "UTC", **self.variables, **variables}


@dataclass(frozen=True, slots=True)
class Repository:
    """A restic repository on this machine, with the shell and the password for it."""

    shell: Shell
    folder: Path
    password_file: Path

    def restic(self, *arguments: Argument, code: int = 0, **variables: str) -> Done:
        return self.shell.restic("-r", self.folder, "-p", self.password_file, *arguments, code=code, **variables)

    def check(self) -> None:
        """Every byte, by restic."""
        assert "no errors were found" in self.restic("check", "--read-data").out

    def snapshots(self) -> list[dict[str, Any]]:
        """As restic lists them, without the pins of CDR."""
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json").out)
        return [one for one in found if "cdr-pin" not in one.get("tags", ())]

    def packs(self) -> set[str]:
        return {path.name for path in self.folder.glob("data/*/*")}
