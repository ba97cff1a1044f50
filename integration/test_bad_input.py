"""What is wrong is said in one line that names it, with the documented exit code, and nothing is lost."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .command import CDR, Done, Shell
from .hosts import Hierarchy, files_in


@pytest.fixture
def demo(tmp_path: Path) -> Shell:
    """A home with a hierarchy of ``files`` in ``demo`` and one version committed."""
    return make_demo(tmp_path)


@pytest.fixture(scope="module")
def settled(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """The same, for commands that change nothing."""
    return make_demo(tmp_path_factory.mktemp("settled"))


def make_demo(folder: Path) -> Shell:
    shell = Shell(folder, {"CDR_CONFIG": str(folder / "demo/cdr.toml")})
    files_in(folder / "files", letter="l")
    shell.cdr("quickstart", "files", "--at", "demo")
    return shell


@pytest.fixture
def hierarchy(tmp_path: Path) -> Hierarchy:
    return Hierarchy(tmp_path).init()


# --- the repository --------------------------------------------------------------------------


REPOSITORY_COMMANDS = (["snapshots"], ["restore", "latest", "--target", "out"], ["receive", "-T", "hq"], ["ticket"])


def test_a_wrong_password(demo: Shell) -> None:
    password = demo.folder / "demo/hq/password"
    right = password.read_text()
    _put_a_version_into_the_inbox(demo)
    password.write_text("wrong\n")
    for command in REPOSITORY_COMMANDS:
        said = demo.cdr(*command, code=12).error
        assert said.startswith("the password opens no key") and str(demo.folder / "demo/hq/repository") in said
    password.write_text(right)
    _assert_received(demo)


def test_no_repository(demo: Shell) -> None:
    repository = demo.folder / "demo/hq/repository"
    _put_a_version_into_the_inbox(demo)
    repository.rename(demo.folder / "away")
    repository.mkdir()
    for command in REPOSITORY_COMMANDS:
        assert str(repository) in demo.cdr(*command, code=10).error
    assert list(repository.iterdir()) == []
    repository.rmdir()
    (demo.folder / "away").rename(repository)
    _assert_received(demo)


def test_a_locked_repository(demo: Shell) -> None:
    repository = demo.folder / "demo/hq/repository"
    _put_a_version_into_the_inbox(demo)
    with _prune_stopped(demo):
        said = demo.cdr("receive", "-T", "hq", code=11).error
        assert "locked" in said and str(repository) in said
        assert demo.cdr("restore", "latest", "--target", "out", code=11).error
    _assert_received(demo)


def test_no_password_is_asked_for_when_nobody_can_answer(settled: Shell) -> None:
    said = settled.cdr("snapshots", "-r", "demo/hq/repository", code=1).error
    assert said.startswith("no password")


def test_no_password_is_asked_for_when_standard_input_is_closed(demo: Shell) -> None:
    closed = Shell(demo.folder, demo.variables, ("sh", "-c", 'exec "$@" <&-', "sh"))
    assert closed.cdr("snapshots", "-r", "demo/hq/repository", code=1).error.startswith("no password")
    assert "1 versions" in closed.cdr("snapshots").out
    closed.cdr("backup")


def test_a_password_is_asked_for_on_a_terminal(demo: Shell) -> None:
    """Typed, it does not show."""
    password = (demo.folder / "demo/hq/password").read_bytes()
    ours, theirs = pty.openpty()
    command = [str(CDR), "snapshots", "-r", "demo/hq/repository", "--json"]
    environment = demo.environment()
    with subprocess.Popen(
        command,
        cwd=demo.folder,
        env=environment,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        start_new_session=True,
    ) as running:
        os.close(theirs)
        asked = b""
        while not asked.endswith(b"password: "):
            asked += os.read(ours, 100)
        os.write(ours, password)
        assert running.stdout is not None
        (version,) = json.loads(running.stdout.read())
    assert running.returncode == 0
    assert version["hostname"] == "laptop"
    os.close(ours)


# --- the configuration and the command line --------------------------------------------------


def test_an_unknown_key_is_named_with_file_line_and_the_nearest_one(demo: Shell) -> None:
    config = demo.folder / "demo/cdr.toml"
    lines = config.read_text().splitlines()
    number = lines.index("[tier.laptop.source]") + 1
    config.write_text("\n".join([*lines[:number], "exclud = []", *lines[number:]]))
    for command in ("backup", "status", "receive"):
        said = demo.cdr(command, code=1).error
        assert f"{config}:{number + 1}" in said
        assert "tier.laptop.source.exclud" in said and "'exclude'" in said


def test_no_configuration(shell: Shell) -> None:
    said = shell.cdr("backup", code=1).error
    assert "cdr.toml" in said and "-c FILE" in said and "$CDR_CONFIG" in said


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["bakup"], "'backup'"),
        (["backup", "--exclud", "x"], "--exclud"),
        (["backup", "--exclude-larger-than", "huge"], "huge"),
        (["backup", "-c", "missing.toml"], "missing.toml"),
        (["backup", "-T", "nobody"], "'nobody'"),
        (["restore", "latest"], "--target"),
        (["restore", "latest", "--target", "out", "--overwrite", "sometimes"], "sometimes"),
        (["restore", "latest", "--target", "demo/cdr.toml"], "demo/cdr.toml"),
        (["restore", "0123456789", "--target", "out"], "0123456789"),
        (["restore", "latest", "--target", "out", "--client", "nobody"], "cdr snapshots"),
        (["ticket", "--group", "nobody"], "demo"),
        (["ticket", "--valid", "soon"], "soon"),
        (["clients", "revoke", "nobody"], "nobody"),
        (["clients", "revoke"], "name"),
        (["enroll", "missing.ticket"], "missing.ticket"),
        (["snapshots", "-r", "missing"], "missing"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(settled: Shell, arguments: list[str], expected: str) -> None:
    done = settled.cdr(*arguments, code=10 if "missing" in arguments else 1)
    assert expected in done.error
    assert done.out == ""
    assert "Traceback" in settled.cdr(*arguments, "-vv", code=done.code).err
    as_json = json.loads(settled.cdr(*arguments, "--json", code=done.code).err)
    assert (as_json["error"], as_json["code"]) == (done.error, done.code)


# --- enrolment -------------------------------------------------------------------------------


def test_a_ticket_of_another_group_is_refused(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path, groups=("legal", "sales")).init()
    alice = hierarchy.client("alice", "legal")
    foreign = alice.folder / "foreign"
    foreign.write_text(hierarchy.hq.cdr("ticket", "-G", "sales").out)
    assert "another group" in alice.cdr("enroll", foreign, code=1).error
    _assert_delivers(hierarchy, alice)


def test_a_ticket_of_a_tier_above_somebody_else_stores_nothing(tmp_path: Path) -> None:
    """Enrolled with one hierarchy and sending to another: what arrives is for other eyes."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    ours, theirs = Hierarchy(tmp_path / "ours").init(), Hierarchy(tmp_path / "theirs").init()
    alice, bob = ours.prepare("alice"), ours.client("bob")
    alice.cdr("init")
    (alice.folder / "ticket").write_text(theirs.hq.cdr("ticket").out)
    alice.cdr("enroll", "ticket")
    for client in (alice, bob):
        files_in(client.folder / "files", letter="l")
        client.cdr("backup")
    ours.deliver()
    assert [one["hostname"] for one in ours.repository().snapshots()] == ["bob"]
    assert alice.json("status")["tiers"][0]["clients"][0]["last_stored"] is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("A", "B"),
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "not a ticket\n" * 1000,
        lambda text: "\0" * 200_000,
        lambda text: text.replace("BEGIN", "BEGAN"),
    ],
    ids=["changed", "truncated", "empty", "foreign", "huge", "other header"],
)
def test_a_damaged_ticket_is_refused(hierarchy: Hierarchy, damage: Callable[[str], str]) -> None:
    alice = hierarchy.prepare("alice")
    alice.cdr("init")
    ticket = alice.folder / "ticket"
    ticket.write_text(damage(hierarchy.hq.cdr("ticket").out))
    assert "ticket" in alice.cdr("enroll", "ticket", code=1).error
    assert "not enrolled" in alice.cdr("backup", code=1).error
    hierarchy.enroll(alice)
    _assert_delivers(hierarchy, alice)


def test_a_ticket_is_used_up(hierarchy: Hierarchy) -> None:
    alice, mallory = hierarchy.client("alice"), hierarchy.prepare("mallory")
    mallory.cdr("init")
    mallory.cdr("enroll", alice.folder / "ticket")
    for client in (alice, mallory):
        files_in(client.folder / "files", letter="l")
        client.cdr("backup")
        hierarchy.deliver(client)
    assert [one["hostname"] for one in hierarchy.repository().snapshots()] == ["alice"]


def test_commands_before_init_name_it(hierarchy: Hierarchy) -> None:
    alice = hierarchy.prepare("alice")
    for command in (["backup"], ["send"]):
        assert "cdr init" in alice.cdr(*command, code=1).error
    assert "cdr init" in alice.cdr("status").out


# --- sources ---------------------------------------------------------------------------------


def test_an_unreadable_file_is_named_and_the_rest_is_captured(hierarchy: Hierarchy) -> None:
    """Root may read everything, so the command runs without that right."""
    alice = hierarchy.client("alice")
    files_in(alice.folder / "files", readable="r", secret="s", closed__inside="i")
    files = alice.folder / "files"
    for name in ("closed", "secret"):
        (files / name).chmod(0)
    setpriv = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    ordinary = Shell(alice.folder, before=setpriv if os.getuid() == 0 else ())
    done = ordinary.cdr("backup", code=3)
    unreadable = [f"cdr: archival: {files}/{name}: Permission denied" for name in ("closed", "secret")]
    assert sorted(done.err.splitlines()) == unreadable
    assert "version 1 captured" in done.out and "2 items could not be read" in done.out
    hierarchy.deliver()
    listed = hierarchy.repository().restic("ls", "latest").out
    assert f"{files}/readable\n" in listed and "secret" not in listed
    hierarchy.repository().check()
    assert len(ordinary.cdr("backup", "--json", code=3).summary["tree"]) == 64
    for name in ("closed", "secret"):
        (files / name).chmod(0o700)
    assert ordinary.json("backup")["version"] == 3


def test_a_missing_source_is_named_and_the_others_are_captured(hierarchy: Hierarchy) -> None:
    alice = hierarchy.client("alice")
    files_in(alice.folder / "files", letter="l")
    done = alice.cdr("backup", "files", "missing", code=3)
    assert "missing: No such file or directory" in done.err
    assert "version 1 captured" in done.out


def test_no_source_at_all_makes_no_version(hierarchy: Hierarchy) -> None:
    alice = hierarchy.client("alice")
    (alice.folder / "files").rmdir()
    assert str(alice.folder / "files") in alice.cdr("backup", code=1).err
    assert alice.json("status")["tiers"][0]["clients"][0]["last_version"] is None


# --- quickstart ------------------------------------------------------------------------------


def test_quickstart_refuses_a_folder_in_use(shell: Shell) -> None:
    files_in(shell.folder, files__letter="l", used__precious="p")
    assert "used: in use" in shell.cdr("quickstart", "files", "--at", "used", code=1).error
    assert [path.name for path in (shell.folder / "used").iterdir()] == ["precious"]
    assert "in use" in shell.cdr("quickstart", "files", "--at", "files/letter", code=1).error
    (shell.folder / "empty").mkdir()
    shell.cdr("quickstart", "files", "--at", "empty")


def test_quickstart_refuses_a_missing_source(shell: Shell) -> None:
    said = shell.cdr("quickstart", "missing", code=1).error
    assert f"{shell.folder}/missing: No such file or directory" in said
    assert list(shell.folder.iterdir()) == []


# --- trouble on the way ----------------------------------------------------------------------


@contextmanager
def tmpfs(folder: Path, size: str) -> Iterator[None]:
    """A small file system at ``folder``; what was there is copied into it, and back."""
    away = folder.with_name(f"{folder.name}-away")
    folder.rename(away)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], check=True)
    try:
        subprocess.run(["cp", "-a", f"{away}/.", folder], check=True)
        yield
        subprocess.run(["rm", "-r", away], check=True)
        subprocess.run(["cp", "-a", f"{folder}/.", away], check=True)
    finally:
        subprocess.run(["umount", folder], check=True)
    folder.rmdir()
    away.rename(folder)


FULL = {"client's state": "alice/state", "storage": "storage", "top tier's repository": "hq/repository-legal"}


@pytest.mark.parametrize("place", FULL)
def test_a_full_disk_loses_nothing(hierarchy: Hierarchy, place: str) -> None:
    alice = hierarchy.client("alice")
    files_in(alice.folder / "files", letter="l")
    alice.cdr("backup")
    hierarchy.deliver()
    files_in(alice.folder / "files", **{f"big{number}": os.urandom(1 << 20) for number in range(12)})
    with tmpfs(hierarchy.folder / FULL[place], "6m"):
        said = _until_full(hierarchy, alice)
        assert said.code == 75
        (line,) = said.err.splitlines()
        assert "No space left" in line or "full" in line
    alice.cdr("backup")
    hierarchy.deliver()
    hierarchy.repository().check()
    hierarchy.hq.cdr("restore", "latest", "--target", "out")
    for path in (alice.folder / "files").iterdir():
        assert (hierarchy.hq.folder / f"out{path}").read_bytes() == path.read_bytes()


def _until_full(hierarchy: Hierarchy, alice: Shell) -> Done:
    """What the first of the commands says that does not succeed."""
    for shell, command in ((alice, "backup"), (alice, "send"), (hierarchy.hq, "receive")):
        finished = subprocess.run(
            [CDR, command], cwd=shell.folder, env=shell.environment(), capture_output=True, stdin=subprocess.DEVNULL
        )
        if finished.returncode:
            return Done(finished.returncode, finished.stdout.decode(), finished.stderr.decode())
    raise AssertionError("the disk is not full")


def test_quickstart_checks_the_free_space(shell: Shell) -> None:
    files_in(shell.folder / "files", letter=os.urandom(5 << 20))
    (shell.folder / "small").mkdir()
    with tmpfs(shell.folder / "small", "8m"):
        said = shell.cdr("quickstart", "files", "--at", "small/demo", code=75).error
        assert "MiB free" in said and "--at" in said
        assert list((shell.folder / "small").iterdir()) == []


@pytest.mark.parametrize("command", ["backup", "receive"])
def test_an_interrupted_run_says_so_and_the_next_one_finishes(hierarchy: Hierarchy, command: str) -> None:
    alice = hierarchy.client("alice")
    files_in(alice.folder / "files", **{f"f{number}": os.urandom(4 << 20) for number in range(20)})
    if command == "receive":
        alice.cdr("backup")
        alice.cdr("send")
    shell = alice if command == "backup" else hierarchy.hq
    watched = shell.folder / ("state/spool" if command == "backup" else "repository-legal/data")
    with subprocess.Popen(
        [CDR, command], cwd=shell.folder, env=shell.environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        while running.poll() is None and not any(path.is_file() for path in watched.rglob("*")):
            pass
        running.send_signal(signal.SIGINT)
        _, said = running.communicate()
    assert (running.returncode, said.decode().splitlines()[-1]) == (130, "cdr: interrupted")
    _assert_delivers(hierarchy, alice)


# --- help --------------------------------------------------------------------------------------


def _put_a_version_into_the_inbox(demo: Shell) -> None:
    files_in(demo.folder / "files", second="2")
    for command in ("backup", "send -T laptop", "receive -T branch", "send -T branch"):
        demo.cdr(*command.split())


def _assert_received(demo: Shell) -> None:
    """What waited while something was wrong is stored now."""
    demo.cdr("receive", "-T", "hq")
    arguments = ("-r", "demo/hq/repository", "-p", "demo/hq/password")
    assert len(json.loads(demo.restic(*arguments, "snapshots", "--json").out)) == 2
    assert "no errors were found" in demo.restic(*arguments, "check", "--read-data").out


def _assert_delivers(hierarchy: Hierarchy, client: Shell) -> None:
    files_in(client.folder / "files", last="l")
    client.cdr("backup")
    hierarchy.deliver(client)
    hierarchy.repository().check()
    listed = hierarchy.repository().restic("ls", "latest").out
    assert f"{client.folder}/files/last\n" in listed


@contextmanager
def _prune_stopped(demo: Shell) -> Iterator[None]:
    """``restic prune`` has its exclusive lock and does not go on. It holds it for 200 ms at least."""
    command = ["restic", "--no-cache", "-r", "demo/hq/repository", "-p", "demo/hq/password", "prune"]
    with subprocess.Popen(
        command, cwd=demo.folder, env=demo.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as running:
        locks = demo.folder / "demo/hq/repository/locks"
        while not any(len(path.name) == 64 for path in locks.iterdir()):
            assert running.poll() is None
        running.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            running.send_signal(signal.SIGCONT)
    assert running.returncode == 0
