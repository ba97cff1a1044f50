"""The password of a repository: from a file, a command, restic's variables, or a terminal."""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from cdr_plugin.errors import UserError

_MAX_PASSWORD_BYTES = 64 * 1024


def read_password(file: Path | None, command: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """The repository's password, by restic's rules: file, command, then restic's variables."""
    if file is not None and command is not None:
        raise UserError("both a password file and a password command are given; choose one")
    if file is not None:
        return _from_file(file)
    if command is not None:
        return _from_command(command)
    if environment.get("RESTIC_PASSWORD_FILE"):
        return _from_file(Path(environment["RESTIC_PASSWORD_FILE"]))
    if environment.get("RESTIC_PASSWORD_COMMAND"):
        return _from_command(environment["RESTIC_PASSWORD_COMMAND"])
    if environment.get("RESTIC_PASSWORD"):
        return environment["RESTIC_PASSWORD"]
    if sys.stdin is not None and sys.stdin.isatty():
        return _checked(getpass.getpass("repository password: "), "password")
    raise UserError("no password: set 'store.password_file' in the configuration, or RESTIC_PASSWORD_FILE")


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_PASSWORD_BYTES)
    except OSError as error:
        raise UserError(f"password file {path}: {error.strerror}") from None
    return _checked(_decoded(data), f"password file {path}")


def _from_command(command: str) -> str:
    try:
        done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, check=True)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise UserError(f"password command failed: {error}") from None
    return _checked(_decoded(done.stdout[:_MAX_PASSWORD_BYTES]), "password command")


def _decoded(data: bytes) -> str:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "strict").strip()
    return data.decode("utf-8", "surrogateescape").strip()


def _checked(password: str, what: str) -> str:
    if not password:
        raise UserError(f"{what}: it is empty; a repository needs a password")
    return password
