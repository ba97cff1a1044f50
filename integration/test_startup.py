"""What a command does not use it does not import: people and timers call it often."""

from __future__ import annotations

import sys

import pytest

from .command import CDR, Shell
from .hosts import files_in

_HEAVY = {"cryptography", "msgpack", "msgspec", "pluggy", "rich", "sqlite3", "zstandard"}


def imported(shell: Shell, *arguments: str) -> set[str]:
    """Top-level names of all modules that the command loads."""
    done = shell.run(sys.executable, "-X", "importtime", CDR, *arguments)
    lines = [line for line in done.err.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("arguments", [["--version"], ["--help"]], ids=" ".join)
def test_nothing_heavy_is_imported_to_tell_about_itself(shell: Shell, arguments: list[str]) -> None:
    assert not imported(shell, *arguments) & _HEAVY


def test_nothing_heavy_but_plugins_is_imported_to_show_the_configuration(shell: Shell) -> None:
    shell.folder.joinpath("cdr.toml").write_text('[tier.a]\nreceive.inbox = "in"\nforward.to = "out"\n')
    assert not imported(shell, "config", "show") & _HEAVY


@pytest.mark.parametrize("command", ["status", "snapshots", "backup", "send", "receive"])
def test_no_command_imports_bars_that_nobody_sees(shell: Shell, command: str) -> None:
    files_in(shell.folder / "files", letter="l")
    shell.cdr("quickstart", "files", "--at", "demo")
    assert "rich" not in imported(shell, command, "-c", "demo/cdr.toml")


def test_status_needs_no_compression(shell: Shell) -> None:
    files_in(shell.folder / "files", letter="l")
    shell.cdr("quickstart", "files", "--at", "demo")
    assert "zstandard" not in imported(shell, "status", "-c", "demo/cdr.toml")
