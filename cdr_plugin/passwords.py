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
    """The repository's password, by restic's rules: file or command, as given, else as restic's
    variables say; then its own variable, then a terminal. UserError."""
    if file is None and command is None:
        named = environment.get("RESTIC_PASSWORD_FILE")
        file, command = Path(named) if named else None, environment.get("RESTIC_PASSWORD_COMMAND") or None
    if file is not None and command is not None:
        raise UserError("both a password file and a password command are given; choose one")
    if file is not None:
        return _from_file(file)
    if command is not None:
        return _from_command(command)
    if environment.get("RESTIC_PASSWORD"):
        return environment["RESTIC_PASSWORD"]
    if _on_terminal():
        return _checked(getpass.getpass("repository password: "), "password")
    raise UserError(
        "no password: give --password-file, set 'store.password_file' in the configuration, or RESTIC_PASSWORD_FILE"
    )


def read_new_password(file: Path | None) -> str:
    """A password to be: from a file, or typed twice on a terminal; UserError otherwise."""
    if file is not None:
        return _from_file(file)
    if not _on_terminal():
        raise UserError("no new password: give --new-password-file, there is no terminal to ask for it")
    password = _checked(getpass.getpass("new password: "), "new password")
    if getpass.getpass("the same again: ") != password:
        raise UserError("the two passwords differ; nothing was changed")
    return password


def read_passphrase(
    file: Path | None, command: str | None, *, new: bool = False, environment: Mapping[str, str] = os.environ
) -> str:
    """The passphrase of an export: from a file or a command, else ``CDR_PASSPHRASE``, else a terminal, typed twice
    where it is ``new``; UserError."""
    if file is not None and command is not None:
        raise UserError("both a passphrase file and a passphrase command are given; choose one")
    if file is not None:
        return _from_file(file, "passphrase")
    if command is not None:
        return _from_command(command, "passphrase")
    if environment.get("CDR_PASSPHRASE"):
        return environment["CDR_PASSPHRASE"]
    if not _on_terminal():
        raise UserError(
            "no passphrase: give --passphrase-file or --passphrase-command, or set CDR_PASSPHRASE; "
            "there is no terminal to ask for it"
        )
    passphrase = _checked(getpass.getpass("passphrase: "), "passphrase")
    if new and getpass.getpass("the same again: ") != passphrase:
        raise UserError("the two passphrases differ; nothing was written")
    return passphrase


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _from_file(path: Path, secret: str = "password") -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_PASSWORD_BYTES)
    except OSError as error:
        raise UserError(f"{secret} file {path}: {error.strerror}") from None
    what = f"{secret} file {path}"
    return _checked(_decoded(data, what), what)


def _from_command(command: str, secret: str = "password") -> str:
    try:
        done = subprocess.run(shlex.split(command), stdout=subprocess.PIPE, check=True)
    except subprocess.CalledProcessError as error:  # whose text holds the command, and that a secret perhaps
        raise UserError(f"{secret} command failed with exit code {error.returncode}") from None
    except (OSError, ValueError, IndexError) as error:
        raise UserError(f"{secret} command failed: {error}") from None
    what = f"{secret} command"
    return _checked(_decoded(done.stdout[:_MAX_PASSWORD_BYTES], what), what)


def _decoded(data: bytes, what: str) -> str:
    """UserError for what its byte order mark belies. Without one, any bytes are a password."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            try:
                return data.decode(encoding).removeprefix("\ufeff").strip()
            except UnicodeDecodeError:
                raise UserError(f"{what}: it begins like {encoding} text and is none") from None
    return data.decode("utf-8", "surrogateescape").strip()


def _checked(password: str, what: str) -> str:
    if not password:
        raise UserError(f"{what}: it is empty; a repository, or an export, needs one")
    return password
