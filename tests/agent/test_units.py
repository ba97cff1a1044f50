"""Units that systemd takes. systemd itself need not run: ``systemd-analyze verify`` reads files, where it exists."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdr_plugin.agent.units import Unit, crontab_line, quoted

ODD = '/srv/a b%i$HOME"x\\y/ü\n/cdr.toml'


def unit(*, system: bool = True, timer: bool = False, config: str = "/etc/cdr/cdr.toml") -> Unit:
    return Unit("cdr", [sys.executable, "-P", "-m", "cdr_plugin", "-c", config], system, timer)


def test_the_service_is_restarted_watched_and_stopped_with_patience() -> None:
    (text,) = unit().files.values()
    lines = text.splitlines()
    for line in ("Type=notify", "Restart=on-failure", "KillMode=mixed", "OOMPolicy=continue", "ProtectSystem=yes"):
        assert line in lines
    assert f"ExecStart={sys.executable} -P -m cdr_plugin -c /etc/cdr/cdr.toml run" in lines


def test_nothing_in_the_units_keeps_a_backup_from_its_files_or_its_commands() -> None:
    harmful = ("PrivateTmp", "ProtectHome", "NoNewPrivileges", "UMask", "PrivateDevices", "ProtectKernelModules")
    for system in (True, False):
        assert not [word for text in unit(system=system).files.values() for word in harmful if f"\n{word}=" in text]


def test_units_of_a_user_need_no_privileges() -> None:
    (text,) = unit(system=False).files.values()
    assert "Protect" not in text and "WantedBy=default.target" in text


def test_the_timer_starts_rounds_that_may_leave_work_waiting() -> None:
    files = unit(timer=True).files
    assert files.keys() == {"cdr.service", "cdr.timer"}
    assert "SuccessExitStatus=75" in files["cdr.service"] and " run --once\n" in files["cdr.service"]
    assert "[Install]" not in files["cdr.service"]


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("/usr/bin/python3", "/usr/bin/python3"),
        ("a b", '"a b"'),
        ("50%", "50%%"),
        ("$HOME", '"$$HOME"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("x\ny", '"x\\x0ay"'),
        ("", '""'),
        ("ü", "ü"),
    ],
)
def test_words_are_quoted_as_systemd_reads_them(word: str, text: str) -> None:
    assert quoted(word) == text


def complaints(folder: Path, made: Unit) -> list[str]:
    """What ``systemd-analyze`` says of our units; a user's other units may have troubles of their own."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: package systemd)")
    for name, text in made.files.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [analyze, *([] if made.system else ["--user"]), "verify", folder / made.enabled],
        env={**os.environ, "XDG_RUNTIME_DIR": str(folder), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if line.startswith((f"{folder}/cdr.", "cdr."))]


@pytest.mark.parametrize("system", [True, False], ids=["system", "user"])
@pytest.mark.parametrize("timer", [False, True], ids=["service", "timer"])
@pytest.mark.parametrize("config", ["/etc/cdr/cdr.toml", ODD], ids=["plain", "odd"])
def test_systemd_finds_nothing_wrong(tmp_path: Path, system: bool, timer: bool, config: str) -> None:
    assert complaints(tmp_path, unit(system=system, timer=timer, config=config)) == []


def test_systemd_would_find_something_wrong(tmp_path: Path) -> None:
    assert complaints(tmp_path, Unit("cdr", ["/no/such/program"], True)) != []


def test_the_crontab_line_is_one_command_for_the_shell() -> None:
    line = crontab_line(["/usr/bin/cdr", "-c", "/a b%/cdr.toml"])
    assert line.startswith("*/15 * * * * ")
    assert "%" not in line.replace("\\%", "")
    words = shlex.split(line.replace("\\%", "%"))[5:]
    assert words == ["/usr/bin/cdr", "-c", "/a b%/cdr.toml", "run", "--once", "--quiet"]
