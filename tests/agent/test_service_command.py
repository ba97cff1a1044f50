"""``cdr service``: what it writes, shows and says where systemd does not run. Nothing here touches a real one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cdr_plugin.agent.elapsed import Moment
from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.agent.ledger import write_ledger
from cdr_plugin.agent.scheduler import Record
from cdr_plugin.cli.main import main

CONFIG = """
[tier.alice]
group = "g"
state = "state"
identity = "identity"
source.paths = ["x"]
forward.to = "out"
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration on a machine without systemd."""
    monkeypatch.setattr("cdr_plugin.agent.systemd.runs_here", lambda: False)
    file = tmp_path / "my cdr.toml"
    file.write_text(CONFIG)
    (tmp_path / "state").mkdir()
    return file


def test_what_would_be_installed_is_printed_with_absolute_paths(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(config.parent)
    assert main(["-c", config.name, "-T", "alice", "service", "install", "--user", "--print"]) == 0
    said = capsys.readouterr().out
    assert f'ExecStart={sys.executable} -P -m cdr_plugin -c "{config}" -T alice run\n' in said
    assert "systemd/user/cdr.service\n" in said


def test_a_package_gets_its_files(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "image"
    words = ["-c", str(config), "service", "--system", "--root", str(root), "--name", "cdr-alice"]
    assert main([*words, "--timer", "install", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    folder = root / "etc/systemd/system"
    assert summary["files"] == [f"{folder}/cdr-alice.service", f"{folder}/cdr-alice.timer"]
    assert main([*words, "remove"]) == 0
    assert list(folder.iterdir()) == []


def test_without_systemd_cron_is_offered(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(config), "service", "install"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("cdr: systemd does not run this machine; start ")
    assert f"*/15 * * * * {sys.executable} -P -m cdr_plugin -c '{config}' run --once --quiet" in said


def test_without_systemd_there_is_nothing_to_remove(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", str(config), "service", "remove"]) == 1
    assert capsys.readouterr().err == "cdr: systemd does not run this machine; nothing is installed in it\n"


def test_the_status_tells_what_each_job_last_did(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ledger(config.parent / "state", {JobKind.SEND: Record(Moment(5.0), 2, "the storage is away")})
    assert main(["-c", str(config), "service", "status", "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert (summary["active"], summary["unit"]) == (False, None)
    assert summary["jobs"] == [
        {"tier": "alice", "job": "backup", "last_done": None, "failures": 0, "error": ""},
        {"tier": "alice", "job": "send", "last_done": 5.0, "failures": 2, "error": "the storage is away"},
    ]
    assert main(["-c", str(config), "service", "status"]) == 1
    said = capsys.readouterr().out
    assert "systemd does not run this machine" in said
    assert "the storage is away" in said and "never" in said


def test_a_configuration_that_is_not_sound_is_not_installed(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(CONFIG + "nonsense = 1\n")
    assert main(["-c", str(config), "service", "install", "--print"]) == 1
    assert "nonsense: unknown key" in capsys.readouterr().err
