"""A real ``cdr run`` over a whole hierarchy: versions arrive by themselves, and nothing that happens to it
loses one. Every wait is for something that the agent says or does, with a limit that no sound run comes near.
"""

from __future__ import annotations

import json
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from .command import CDR, Repository, Shell
from .hosts import files_in

LIMIT_S = 300
"""For what takes seconds."""

Line: TypeAlias = dict[str, Any]


@dataclass
class Running:
    """An agent at work, and all that it has said."""

    process: subprocess.Popen[str]
    lines: queue.SimpleQueue[Line] = field(default_factory=queue.SimpleQueue)
    heard: list[Line] = field(default_factory=list)

    def __post_init__(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def until(self, event: str, tier: str = "", job: str = "") -> Line:
        """Wait for the next line about this."""

        def is_it(line: Line) -> bool:
            wanted = {"event": event} | ({"tier": tier} if tier else {}) | ({"job": job} if job else {})
            return wanted.items() <= line.items()

        return self.until_line(is_it)

    def until_line(self, is_it: Callable[[Line], bool]) -> Line:
        end_s = time.monotonic() + LIMIT_S
        while (left_s := end_s - time.monotonic()) > 0:
            try:
                line = self.lines.get(timeout=left_s)
            except queue.Empty:
                break
            self.heard.append(line)
            if is_it(line):
                return line
        raise AssertionError(f"not heard within {LIMIT_S} s; heard: {self.heard[-30:]}")

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """Its exit code, once it has ended."""
        return self.process.wait(LIMIT_S)


@dataclass
class Place:
    """The demonstration's hierarchy, for one test."""

    shell: Shell
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "cdr.toml"

    @property
    def repository(self) -> Repository:
        return Repository(self.shell, self.folder / "hq/repository", self.folder / "hq/password")

    def edit(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        # Written whole, as editors do.
        self.config.with_suffix(".new").write_text(text.replace(old, new))
        self.config.with_suffix(".new").replace(self.config)

    def every(self, interval: str) -> None:
        """How often versions are made."""
        self.edit("[tier.laptop.source]\n", f'[tier.laptop.source]\nwhen = {{ every = "{interval}" }}\n')

    def cdr(self, *arguments: str, code: int = 0) -> Line:
        return self.shell.json(*arguments, "-c", self.config, code=code)

    def laptop(self) -> Line:
        """What the client knows of its newest version."""
        found = self.cdr("status", "-T", "laptop")["tiers"][0]["clients"][0]
        return dict(found)

    @contextmanager
    def agent(self, *arguments: str, **variables: str) -> Iterator[Running]:
        """An agent, which is killed if it is still there at the end."""
        process = subprocess.Popen(
            [CDR, "-c", self.config, "run", "--json", "-v", *arguments],
            cwd=self.shell.folder,
            env=self.shell.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        running = Running(process)
        try:
            running.until("started")
            yield running
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hierarchy with one version, to be copied."""
    home = tmp_path_factory.mktemp("made")
    files_in(home / "files", letter="l")
    Shell(home).cdr("quickstart", "files", "--at", "demo")
    return home


@pytest.fixture
def place(made: Path, shell: Shell) -> Place:
    shutil.copytree(made, shell.folder, symlinks=True, dirs_exist_ok=True)
    found = Place(shell, shell.folder / "demo")
    found.edit(str(made), str(shell.folder))
    return found


def new_file(place: Place, name: str) -> None:
    (place.shell.folder / "files" / name).write_text(f"of {name}\n" * 99)


# --- the way of a version ------------------------------------------------------------------------


def test_versions_are_made_sent_taken_and_committed_until_the_agent_is_told_to_stop(place: Place) -> None:
    new_file(place, "new")
    place.every("1h")
    backdate_newest_version(place)
    with place.agent() as agent:
        version = agent.until("done", "laptop", "backup")["summary"]["version"]
        agent.until_line(lambda line: line.get("summary", {}).get("versions_stored") == 1)
        committed = False
        for _ in range(20):  # the answer comes down a tier at a time
            agent.tell(signal.SIGUSR1)
            agent.until("done", "laptop", "send")
            committed = place.laptop()["last_stored"] == version
            if committed:
                break
        assert committed
        agent.tell(signal.SIGTERM)
        assert agent.end() == 0
    assert len([line for line in agent.heard if line.get("event") == "began" and line["job"] == "backup"]) == 1
    assert len(place.repository.snapshots()) == 2
    place.repository.check()


def test_agents_of_one_file_with_a_tier_each_carry_a_hierarchy_together(place: Place) -> None:
    new_file(place, "new")
    place.every("1h")
    backdate_newest_version(place)
    with (
        place.agent("-T", "laptop") as laptop,
        place.agent("-T", "branch") as branch,
        place.agent("-T", "hq") as hq,
    ):
        version = laptop.until("done", "laptop", "backup")["summary"]["version"]
        laptop.until_line(lambda line: line.get("summary", {}).get("segments_sent") == 1)
        for agent, done in ((branch, "segments_sent"), (hq, "versions_stored")):
            agent.tell(signal.SIGUSR1)  # no agent sees what another one has put
            agent.until_line(lambda line, done=done: line.get("summary", {}).get(done) == 1)  # type: ignore[misc]
        for _ in range(20):  # the answer comes down a tier at a time
            for agent, tier in ((branch, "branch"), (laptop, "laptop")):
                agent.tell(signal.SIGUSR1)
                agent.until("done", tier, "send")
            if place.laptop()["last_stored"] == version:
                break
        assert place.laptop()["last_stored"] == version
        for agent in (laptop, branch, hq):
            agent.tell(signal.SIGTERM)
            assert agent.end() == 0
    for agent, tier in ((laptop, "laptop"), (branch, "branch"), (hq, "hq")):
        assert {line["tier"] for line in agent.heard if line.get("event") == "began"} == {tier}
    assert len(place.repository.snapshots()) == 2
    place.repository.check()


def backdate_newest_version(place: Place) -> None:
    """As if the demonstration's version were a year old."""
    import sqlite3

    with sqlite3.connect(place.folder / "laptop/state/state.db") as state:
        state.execute("UPDATE versions SET time = replace(time, substr(time, 1, 4), '2020')")
    state.close()


def test_a_version_that_was_made_by_hand_or_by_an_agent_that_died_is_not_made_again(place: Place) -> None:
    with place.agent() as agent:
        for job in (("laptop", "send"), ("branch", "receive"), ("branch", "send"), ("hq", "receive")):
            agent.until_line(lambda line, job=job: (line.get("tier"), line.get("job")) == job)  # type: ignore[misc]
        agent.tell(signal.SIGTERM)
        assert agent.end() == 0
    assert not [line for line in agent.heard if line.get("job") == "backup"]


def test_killed_again_and_again_it_goes_on_where_it_was(place: Place) -> None:
    place.every("1s")
    for event, tier, job in (
        ("began", "laptop", "backup"),
        ("done", "laptop", "backup"),
        ("began", "hq", "receive"),
    ):
        new_file(place, f"{tier}-{job}-{event}")
        with place.agent() as agent:
            agent.until(event, tier, job)
            agent.tell(signal.SIGKILL)
            assert agent.end() == -signal.SIGKILL
    with place.agent() as agent:
        number = agent.until("done", "laptop", "backup")["summary"]["version"]
        agent.tell(signal.SIGTERM)
        assert agent.end() == 0
    settle(place)
    assert place.laptop()["last_stored"] >= number
    place.repository.check()
    tags = [tag for one in place.repository.snapshots() for tag in one["tags"] if tag.startswith("cdr-version:")]
    assert len(tags) == len(set(tags)) > 2


def settle(place: Place) -> None:
    """By hand, until everything has arrived and its client knows."""
    for command, tier in (("send", "laptop"), ("receive", "branch"), ("send", "branch"), ("receive", "hq")):
        patiently(place, command, tier)
    for tier in ("branch", "laptop"):
        patiently(place, "send", tier)


def patiently(place: Place, command: str, tier: str) -> None:
    """A job of an agent that was killed may still be at it: until it has ended."""
    end_s = time.monotonic() + LIMIT_S
    words: list[str | Path] = [CDR, command, "-T", tier, "-c", place.config]
    while (done := subprocess.run(words, env=place.shell.environment(), capture_output=True)).returncode == 75:
        assert time.monotonic() < end_s, done.stderr
    assert done.returncode == 0, done.stderr


# --- stopping ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_stop_ends_the_job_under_way_and_no_version_is_half_made(place: Place, number: signal.Signals) -> None:
    mark = place.shell.folder / "mark"
    place.every("1s")
    place.edit(
        "[tier.laptop.source]\n",
        f'[tier.laptop.source]\nbefore = "echo at work; sleep 100000"\nafter = "touch {mark}"\n',
    )
    with place.agent() as agent:
        agent.until_line(lambda line: line.get("message") == "at work")
        agent.tell(number)
        assert agent.end() == 0
    assert place.laptop()["last_version"] == 1
    assert mark.exists()


def test_systemd_is_told_that_the_agent_is_ready_alive_and_stopping(place: Place) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("")  # the kernel gives it an abstract name of six bytes
        systemd.settimeout(LIMIT_S)
        with place.agent(NOTIFY_SOCKET=f"@{systemd.getsockname()[1:].decode()}") as agent:
            assert systemd.recv(4096) == b"READY=1"
            assert systemd.recv(4096).startswith(b"WATCHDOG=1\nSTATUS=working: ")
            agent.tell(signal.SIGTERM)
            while systemd.recv(4096) != b"STOPPING=1":
                pass
            assert agent.end() == 0


# --- configuration -------------------------------------------------------------------------------


def test_a_broken_configuration_is_reported_and_the_one_before_stays_in_force_until_it_is_mended(place: Place) -> None:
    with place.agent() as agent:
        place.edit("[tier.hq.store]\n", "[tier.hq.store]\nnonsense = 1\n")
        agent.tell(signal.SIGHUP)
        reported = agent.until("reload")
        assert reported["level"] == "error"
        assert "nonsense: unknown key" in reported["message"]
        assert reported["message"].endswith("the configuration before stays in force")
        agent.tell(signal.SIGUSR1)
        agent.until("began", "hq", "receive")
        agent.until("done", "hq", "receive")
        new_file(place, "new")
        place.edit("nonsense = 1\n", "")
        place.every("1s")
        agent.tell(signal.SIGHUP)
        assert agent.until("reload")["level"] == "info"
        agent.until("done", "laptop", "backup")
        agent.tell(signal.SIGTERM)
        assert agent.end() == 0
    assert not [line for line in agent.heard if line.get("event") == "failed"]


def test_a_changed_configuration_is_noticed_without_being_told(place: Place) -> None:
    with place.agent() as agent:
        place.every("1s")
        agent.until("reload")
        agent.until("done", "laptop", "backup")


# --- one agent per state -------------------------------------------------------------------------


def test_there_is_one_agent_per_tier(place: Place) -> None:
    with place.agent():
        refused = place.shell.cdr("run", "-c", place.config, "-T", "branch", code=75)
        assert refused.error.startswith("another process is at it already: agent of branch (")


def test_a_tier_without_state_is_refused_with_advice(place: Place) -> None:
    shutil.rmtree(place.folder / "branch/state")
    refused = place.shell.cdr("run", "-c", place.config, code=1)
    assert refused.error == f"tier branch: no state in {place.folder}/branch/state; run 'cdr init', or mount its disk"


# --- one round -----------------------------------------------------------------------------------


def test_one_round_does_what_is_due_once_and_says_whether_work_waits(place: Place) -> None:
    new_file(place, "new")
    place.every("1s")
    place.shell.cdr("run", "--once", "-c", place.config)
    assert len(place.repository.snapshots()) == 2
    place.cdr("pause")
    new_file(place, "another")
    waiting = place.shell.cdr("run", "--once", "-v", "-c", place.config, code=75)
    assert waiting.out.count("waiting for 'cdr resume' (paused)") == 5
    assert "waiting for 'cdr resume' (paused)" in place.cdr("send", "-T", "laptop")["waiting_for"]
    place.cdr("resume")
    place.shell.cdr("run", "--once", "-c", place.config)
    assert len(place.repository.snapshots()) == 3
    place.repository.check()


def test_a_round_in_which_a_job_failed_says_so_and_does_the_others(place: Place) -> None:
    place.every("1s")
    place.edit("[tier.laptop.source]\n", '[tier.laptop.source]\nbefore = "exit 5"\n')
    done = place.shell.cdr("run", "--once", "-v", "-c", place.config, code=1)
    assert "laptop backup: failed: the command before the backup failed (5)" in done.out
    assert "hq receive: nothing to do" in done.out


def test_a_round_checks_and_forgets_and_says_when_a_check_found_damage(place: Place) -> None:
    for name in ("one", "two", "three"):
        new_file(place, name)
        for command in ("backup", "send", "receive", "send", "receive"):
            place.cdr(command)
    care = 'check = { read_data_subset = "100%" }\nforget = { keep_last = 1 }\n'
    place.edit("[tier.hq.store]\n", f"[tier.hq.store]\n{care}")
    place.shell.cdr("run", "--once", "-c", place.config)
    assert len(place.repository.snapshots()) == 2  # the newest, and what the client may build on
    versions = place.cdr("status", "-T", "hq")["tiers"][0]["clients"][0]["versions"]
    assert [one["state"] for one in versions] == ["verified"]
    again = place.shell.cdr("run", "--once", "-v", "-c", place.config)
    assert "check" not in again.out and "forget" not in again.out  # neither is due
    pack = max((place.folder / "hq/repository/data").rglob("??*/*"), key=lambda path: path.stat().st_size)
    pack.chmod(0o600)
    pack.write_bytes(pack.read_bytes()[:-1])
    place.edit("check = { ", 'check = { every = "1s", ')
    done = place.shell.cdr("run", "--once", "-c", place.config, code=1)
    assert sum("damage in repository" in line for line in done.out.splitlines()) == 1
    assert "0 versions verified" in done.out


def test_conditions_are_asked_before_a_job_begins(place: Place) -> None:
    place.every("1s")
    place.edit('every = "1s"', 'every = "1s", command = "false"')
    done = place.shell.cdr("run", "--once", "-v", "-c", place.config, "-T", "laptop", code=75)
    assert "laptop backup: waiting for" in done.out
    assert "laptop backup: begins" not in done.out
