"""``cdr backup`` of streams and lists, its time, its waiting, and the commands around it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.cli.main import main

CONFIG = """
[tier.laptop]
group = "g"
state = "laptop-state"
identity = "laptop-identity"
[tier.laptop.source]
paths = ["source"]
{source}
[tier.laptop.reduce]
methods = ["delta", "zstd"]
[tier.laptop.forward]
to = "inbox"

[tier.hq]
state = "hq-state"
identity = "hq-identity"
[tier.hq.receive]
inbox = "inbox"
[tier.hq.store]
repository = "repository"
password_file = "password"
"""


@dataclass
class Home:
    """A folder with a client and a top tier, initialised."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def configure(self, **source: str) -> None:
        lines = [f"{key} = {json.dumps(value)}" for key, value in source.items()]
        (self.folder / "cdr.toml").write_text(CONFIG.format(source="\n".join(lines)))

    def cdr(self, *arguments: str, code: int = 0) -> tuple[dict[str, Any], str]:
        """The summary, and what was said on standard error."""
        self.capture.readouterr()
        found = main(["--json", *arguments])
        out, err = self.capture.readouterr()
        assert found == code, out + err
        lines = [json.loads(line) for line in out.splitlines()]
        return lines[-1] if lines else {}, err

    def snapshot(self) -> dict[str, Any]:
        """The newest one, when all there is has been stored."""
        for arguments in (("send", "-T", "laptop"), ("receive", "-T", "hq"), ("send", "-T", "laptop")):
            self.cdr(*arguments)
        found: list[dict[str, Any]] = json.loads(self.restic("snapshots", "--json"))
        (newest,) = (one for one in found if one["tags"][0].split(":")[2:3] == [str(self.versions())])
        return newest

    def versions(self) -> int:
        (row,) = self.cdr("status", "-T", "laptop")[0]["tiers"][0]["clients"]
        return int(row["last_version"] or 0)

    def restic(self, *arguments: str) -> str:
        command = ["restic", "--no-cache", "-r", "repository", "-p", "password", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=self.folder).stdout


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Home:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("CDR_CONFIG", str(tmp_path / "cdr.toml"))
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("f")
    (tmp_path / "password").write_text("p")
    found = Home(tmp_path, capfd)
    found.configure()
    found.cdr("init")
    return found


@pytest.fixture
def piped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Lets standard input be these bytes."""

    def pipe(data: bytes) -> None:
        path = tmp_path / "standard input"
        path.write_bytes(data)
        monkeypatch.setattr("sys.stdin", path.open())

    return pipe


def test_standard_input_becomes_a_file(home: Home, piped: Callable[[bytes], None]) -> None:
    piped(b"from a pipe\n")
    summary, _ = home.cdr("backup", "--stdin", "--stdin-filename", "dumps/db.sql", "--time", "2021-02-03 04:05:06")
    assert (summary["files_new"], summary["total_bytes_processed"]) == (1, 12)
    snapshot = home.snapshot()
    assert snapshot["paths"] == ["/dumps/db.sql"]
    assert snapshot["time"].startswith("2021-02-03T04:05:06")
    assert home.restic("dump", "latest", "/dumps/db.sql") == "from a pipe\n"


def test_the_next_stream_travels_as_what_differs(home: Home) -> None:
    """Not as the whole blob that changed, of about a MiB of noise."""
    data = random.Random(3).randbytes(4 << 20)
    sizes = []
    for text in (data, data[: 1 << 20] + b"changed" + data[1 << 20 :]):
        (home.folder / "dump").write_bytes(text)
        summary, _ = home.cdr("backup", "--stdin-from-command", "--", "cat", "dump")
        sizes.append(summary["spooled_bytes"])
    assert sizes[0] > 4 << 20
    assert sizes[1] < 64 << 10


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["sh", "-c", "echo half; echo 'no such table' >&2; exit 9"], "failed with exit code 9: sh -c"),
        (["no-such-command"], "cannot be run (No such file or directory): no-such-command"),
        (["true"], "no data came"),
    ],
)
def test_a_command_that_fails_makes_no_version(home: Home, words: Sequence[str], why: str) -> None:
    _, err = home.cdr("backup", "--stdin-from-command", "--", *words, code=1)
    assert why in err
    assert ("no such table\n" in err) == ("sh" in words)
    assert home.versions() == 0


NONSENSE = [
    "--stdin source",
    "--stdin --files-from list",
    "--stdin-from-command",
    "--stdin-from-command --stdin -- true",
    "--stdin-from-command --files-from-raw list -- true",
    "--stdin-filename .. --stdin-from-command -- true",
    "--files-from - --files-from-raw -",
    "--files-from no-such-list",
    "--files-from /dev/null",
    "--time yesterday",
    "--time 2021-02-30",
    "--timeout 1s",
    "--wait=soon",
]


def test_what_does_not_make_sense_is_refused(home: Home) -> None:
    for line in NONSENSE:
        _, err = home.cdr("backup", *line.split(), code=1)
        assert json.loads(err.splitlines()[-1])["error"], line
    assert home.versions() == 0


def test_a_stream_that_finds_no_room_makes_no_version(home: Home) -> None:
    """Not of its rest either, when a version that waits could make room."""
    (home.folder / "cdr.toml").write_text(CONFIG.format(source='[tier.laptop.spool]\nmax_size = "2MiB"'))
    home.cdr("backup")
    (home.folder / "inbox").rename(home.folder / "out of reach")
    (home.folder / "dump").write_bytes(random.Random(4).randbytes(6 << 20))
    _, err = home.cdr("backup", "--stdin-from-command", "--", "cat", "dump", code=75)
    assert "spool" in err
    assert home.versions() == 1


def test_lists_name_what_is_backed_up(home: Home) -> None:
    for name in ("a.txt", "b.txt", "*"):
        (home.folder / name).write_text(name)
    (home.folder / "patterns").write_text("# comment\n?.txt\n")
    (home.folder / "verbatim").write_text("*\n")
    (home.folder / "raw").write_bytes(b"source/file\0")
    lists = ["--files-from", "patterns", "--files-from-verbatim", "verbatim", "--files-from-raw", "raw"]
    home.cdr("backup", *lists, "password")
    names = ("a.txt", "b.txt", "*", "source/file", "password")
    assert set(home.snapshot()["paths"]) == {str(home.folder / name) for name in names}


def test_before_may_make_the_lists(home: Home) -> None:
    home.configure(before="echo source/file > list", after="rm list")
    home.cdr("backup", "--files-from", "list")
    assert not (home.folder / "list").exists()


def test_commands_know_the_tier_and_print_nothing_into_the_result(home: Home) -> None:
    home.configure(before="echo before $CDR_TIER $CDR_CONFIG", after="echo after")
    summary, err = home.cdr("backup")
    assert summary["version"] == 1
    assert err.splitlines()[:2] == [f"before laptop {home.folder}/cdr.toml", "after"]


def test_after_runs_when_before_and_the_backup_fail(home: Home) -> None:
    home.configure(before="exit 5", after="touch after")
    _, err = home.cdr("backup", code=1)
    assert "before the backup failed (5)" in err
    (home.folder / "after").unlink()
    home.configure(after="touch after")
    home.cdr("backup", "no such path", code=1)
    assert (home.folder / "after").exists()
    assert home.versions() == 0


def test_waiting_ends_with_the_commit(home: Home) -> None:
    receive = f"{sys.executable} -m cdr_plugin receive -T hq"
    script = f"until ls inbox/*/* >/dev/null 2>&1; do sleep 0.1; done; while sleep 0.2; do {receive}; done"
    receiving = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        summary, _ = home.cdr("backup", "--wait", "--timeout", "5m")
    finally:
        receiving.terminate()
        receiving.wait()
    assert summary["state"] == "committed"


def test_waiting_in_vain_ends_with_75_and_the_version_stays(home: Home) -> None:
    summary, err = home.cdr("backup", "--wait=stored", "--timeout", "0", code=75)
    assert (summary["version"], summary["state"]) == (1, "in transit")
    assert "version 1 is not stored after" in err
    home.cdr("receive", "-T", "hq")
    summary, _ = home.cdr("backup", "--wait=stored", "--timeout", "0", code=75)
    assert summary["version"] == 2


def test_what_is_mapped_is_backed_up_under_its_own_path(home: Home) -> None:
    """Named by either path; the client's own folders are left out of the snapshot, too."""
    snapshot, shown = home.folder / "mounted", home.folder / "shown"
    (snapshot / "own").mkdir(parents=True)
    (snapshot / "file").write_text("of the snapshot")
    source = f'map = {{ "{snapshot}" = "{shown}" }}'
    text = CONFIG.format(source=source).replace('["source"]', f'["{shown}"]')
    (home.folder / "cdr.toml").write_text(text)
    home.cdr("backup")
    assert home.snapshot()["paths"] == [str(shown)]
    assert home.restic("dump", "latest", f"{shown}/file") == "of the snapshot"
    home.cdr("backup", str(snapshot))
    assert home.snapshot()["paths"] == [str(shown)]
    snapshot.rename(home.folder / "not mounted")
    assert "Is the snapshot mounted" in home.cdr("backup", code=1)[1]
