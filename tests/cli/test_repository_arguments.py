"""Which repository is meant, and how it is opened: options, then restic's variables."""

from __future__ import annotations

import argparse
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.cli.go_durations import go_duration
from cdr_plugin.cli.repository_arguments import (
    add_repository_arguments,
    adjusted,
    given_location,
    given_options,
)
from cdr_plugin.contracts import RepositoryOptions
from cdr_plugin.errors import UserError
from cdr_plugin.passwords import read_new_password, read_password
from cdr_plugin.reporter import Reporter


def _parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_repository_arguments(parser, writes=True)
    return parser.parse_args(arguments)


def _options(*arguments: str, environment: Mapping[str, str] | None = None) -> RepositoryOptions:
    return given_options(_parsed(*arguments), Reporter(), environment or {})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("300ms", 0.3), ("0", 0), ("2h45m10s", 9910), (".5s", 0.5)],
)
def test_durations_are_gos(text: str, seconds: float) -> None:
    assert go_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "-5m", "m", "1 h", "5m ", "1d", "٣m", "1e3s", "9" * 40 + "s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected a duration such as '5m'"):
        go_duration(text)


@given(st.text(max_size=12))
def test_no_text_breaks_the_parser_of_durations(text: str) -> None:
    try:
        assert go_duration(text) >= 0
    except argparse.ArgumentTypeError:
        pass


def test_without_options_and_variables_the_defaults_hold() -> None:
    options = _options()
    assert (options.retry_lock_s, options.no_lock, options.key_hint) == (0, False, "")
    assert (options.compression, options.pack_size) == ("auto", 16 << 20)
    assert given_location(_parsed(), {}) is None


def test_options_say_how_to_open() -> None:
    options = _options(
        *("--retry-lock", "5m", "--no-lock", "--key-hint", "ab12"),
        *("--compression", "max", "--pack-size", "64"),
    )
    assert (options.retry_lock_s, options.no_lock, options.key_hint) == (300, True, "ab12")
    assert (options.compression, options.pack_size) == ("max", 64 << 20)


VARIABLES = {"RESTIC_KEY_HINT": "cd34", "RESTIC_COMPRESSION": "off", "RESTIC_PACK_SIZE": "8"}


def test_restics_variables_count_and_options_beat_them() -> None:
    options = _options(environment=VARIABLES)
    assert (options.key_hint, options.compression, options.pack_size) == ("cd34", "off", 8 << 20)
    options = _options("--key-hint", "ab12", "--pack-size", "32", environment=VARIABLES)
    assert (options.key_hint, options.compression, options.pack_size) == ("ab12", "off", 32 << 20)


def test_a_pack_size_of_0_means_the_default() -> None:
    assert _options("--pack-size", "0", environment={"RESTIC_PACK_SIZE": "0"}).pack_size == 16 << 20


def test_a_pack_size_that_is_no_number_is_named() -> None:
    with pytest.raises(UserError, match="RESTIC_PACK_SIZE: expected a number of MiB such as 16, not '16M'"):
        _options(environment={"RESTIC_PACK_SIZE": "16M"})


def test_only_options_change_what_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    configured = RepositoryOptions(lambda: "configured", compression="max", key_hint="")
    unchanged = adjusted(configured, _parsed())
    assert unchanged.password() == "configured"
    assert (unchanged.compression, unchanged.key_hint) == ("max", "")
    (tmp_path / "password").write_text("given\n")
    changed = adjusted(configured, _parsed("-p", str(tmp_path / "password"), "--compression", "off"))
    assert changed.password() == "given" and changed.compression == "off"


def test_the_location_comes_from_the_nearest_place_that_names_one(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("/of/option/file\n")
    (tmp_path / "two").write_text("/of/variable/file\n")
    file = {"RESTIC_REPOSITORY_FILE": str(tmp_path / "two")}
    both = {**file, "RESTIC_REPOSITORY": "/of/variable"}
    assert given_location(_parsed("-r", "/of/option"), both) == "/of/option"
    assert given_location(_parsed("--repository-file", str(tmp_path / "one")), both) == "/of/option/file"
    assert given_location(_parsed(), both) == "/of/variable"
    assert given_location(_parsed(), file) == "/of/variable/file"
    with pytest.raises(UserError, match="both --repo and --repository-file are given"):
        given_location(_parsed("-r", "a", "--repository-file", "b"), {})


@pytest.mark.parametrize(
    ("data", "problem"), [(b"", "it is empty"), (b"\xff\xfe\xff", "no UTF-8 text"), (None, "No such")]
)
def test_a_repository_file_that_names_nothing_is_named(tmp_path: Path, data: bytes | None, problem: str) -> None:
    if data is not None:
        (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match=f"--repository-file {tmp_path}/file: .*{problem}"):
        given_location(_parsed("--repository-file", str(tmp_path / "file")), {})


def test_a_password_file_and_a_command_exclude_each_other(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_bytes(b"\xef\xbb\xbf in a file \r\n")
    for arguments, environment in (
        ((file, "echo x"), {}),
        ((None, None), {"RESTIC_PASSWORD_FILE": str(file), "RESTIC_PASSWORD_COMMAND": "echo x"}),
    ):
        with pytest.raises(UserError, match="both a password file and a password command"):
            read_password(*arguments, environment)
    everything = {"RESTIC_PASSWORD": "a", "RESTIC_PASSWORD_FILE": str(file), "RESTIC_PASSWORD_COMMAND": "echo x"}
    assert read_password(file, None, everything) == "in a file"
    assert read_password(None, "echo ' from a command '", everything) == "from a command"
    assert read_password(None, None, {"RESTIC_PASSWORD": " a "}) == " a "


def test_a_failing_password_command_shows_its_exit_code_and_not_itself() -> None:
    with pytest.raises(UserError, match=r"password command failed with exit code 3$"):
        read_password(None, "sh -c 'exit 3 # hunter2'", {})
    for command in ("/no/such/command", "unbalanced '", ""):
        with pytest.raises(UserError, match="password command"):
            read_password(None, command, {})


def test_a_password_file_that_is_not_what_its_mark_says_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "password").write_bytes(b"\xff\xfea")
    with pytest.raises(UserError, match="it begins like utf-16 text and is none"):
        read_password(tmp_path / "password", None, {})


def test_a_new_password_is_not_asked_for_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError, match="no new password: give --new-password-file"):
        read_new_password(None)


@pytest.mark.parametrize("again", ["typed", "mistyped"])
def test_a_new_password_is_asked_for_twice_on_a_terminal(again: str) -> None:
    program = "from cdr_plugin.passwords import read_new_password\nprint(read_new_password(None))"
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    ) as running:
        for line in ("typed", again):
            # It says on standard error what it asks for, as it cannot open a terminal of its own.
            assert running.stderr is not None
            prompt = ""
            while not prompt.endswith(": "):
                prompt += running.stderr.read(1)
            os.write(ours, line.encode() + b"\n")
        out, error = running.communicate()
    os.close(ours)
    os.close(theirs)
    if again == "typed":
        assert out == "typed\n"
    else:
        assert "the two passwords differ; nothing was changed" in error


def test_commands_that_open_repositories_survive_restic_unlock() -> None:
    program = (
        "import os, signal\nfrom cdr_plugin.cli.main import main\n"
        "main(['snapshots', '-r', '/no/such/repository'])\nos.kill(os.getpid(), signal.SIGHUP)\n"
        "print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (0, "alive\n")
