"""The recipes of docs/sources.md, run as the page has them: against a live PostgreSQL, a live SQLite and
snapshots of a real btrfs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests import test_docs as docs

PAGE = docs.DOCS / "sources.md"
ROWS = 1000


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder which other users may enter, as servers under their own account must."""
    folder = Path(tempfile.mkdtemp(prefix="cdr-sources-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def follow(word: str, folder: Path, environment: Mapping[str, str], places: Mapping[str, str] | None = None) -> None:
    """Write the page's configuration of that name and run its commands in order."""

    def placed(text: str) -> str:
        text = docs.placed(text, folder)
        for place, there in (places or {}).items():
            text = text.replace(place, there)
        return text

    blocks = list(docs.blocks(PAGE))
    (config,) = [block for block in blocks if block.file == f"{word}.toml"]
    (folder / f"{word}.toml").write_text(placed(config.text))
    exported = {**environment, "CDR_CONFIG": f"{word}.toml"}
    for block in blocks:
        if word in block.words[1:]:
            for command, expected in docs.steps(block):
                output = docs.run(placed(command), folder, exported, block)
                shown = "\n".join(line for line in expected.splitlines() if line.strip() != "...")
                docs.check_output(placed(shown), output, f"{block.where}: $ {command}")


# --- PostgreSQL ------------------------------------------------------------------------------------


def postgres_programs() -> Path:
    """Debian keeps the server's programs out of PATH; the newest."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[4]))
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    if named is None:
        pytest.skip("no PostgreSQL server on this machine: apt-get install postgresql")
    return Path(named).parent


@pytest.fixture
def postgres(place: Path) -> Iterator[dict[str, str]]:
    """A server of its own on a socket in ``place``; the variables with which clients find it."""
    programs, data, socket = postgres_programs(), place / "cluster", place / "socket"
    variables = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "LC_ALL": "C", "TZ": "UTC"}
    as_user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        as_user = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    for folder in (data, socket):
        folder.mkdir(mode=0o700)
        if as_user:
            shutil.chown(folder, "nobody", "nogroup")
    socket.chmod(0o755)

    def call(*command: str | Path) -> None:
        subprocess.run([*as_user, *command], env=variables, cwd=place, check=True, stdout=subprocess.DEVNULL)

    call("initdb", "--no-sync", "--auth=trust", "--username=keeper", "--pgdata", data)
    options = f"-c listen_addresses='' -c unix_socket_directories={socket} -c fsync=off"
    call("pg_ctl", "--pgdata", data, "--options", options, "--log", data / "log", "--wait", "start")
    try:
        yield {"PGHOST": str(socket), "PGUSER": "keeper", "PATH": variables["PATH"]}
    finally:
        call("pg_ctl", "--pgdata", data, "--mode=immediate", "--wait", "stop")


def test_a_live_postgresql_is_dumped_and_copied_and_comes_back(place: Path, postgres: dict[str, str]) -> None:
    home = place / "home"
    home.mkdir()
    environment = docs.set_up(home)
    environment |= {**postgres, "PATH": f"{home / 'bin'}:{postgres['PATH']}"}

    def sql(text: str, database: str = "app") -> None:
        command = ["psql", "--quiet", "--set=ON_ERROR_STOP=1", "--command", text, database]
        subprocess.run(command, env=environment, check=True)

    sql("CREATE DATABASE app", "postgres")
    sql(f"CREATE TABLE account AS SELECT n AS id, md5(n::text) AS name FROM generate_series(1, {ROWS}) n")
    writer = subprocess.Popen(["psql", "--quiet", "app"], stdin=subprocess.PIPE, env=environment, text=True)
    assert writer.stdin is not None
    try:  # a transaction is open all the time
        writer.stdin.write("BEGIN; INSERT INTO account SELECT -n, 'never seen' FROM generate_series(1, 5000) n;\n")
        writer.stdin.flush()
        follow("postgres", home, environment)
        assert writer.poll() is None
    finally:
        writer.kill()
        writer.communicate()


# --- SQLite ----------------------------------------------------------------------------------------


def test_a_live_sqlite_is_copied_and_the_live_file_alone_is_not_it(tmp_path: Path) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("no sqlite3 on this machine: apt-get install sqlite3")
    environment = docs.set_up(tmp_path)
    live = tmp_path / "Documents" / "app.db"
    writer = sqlite3.connect(live, isolation_level=None)
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("PRAGMA wal_autocheckpoint=0")
    writer.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, name TEXT)")
    writer.executemany("INSERT INTO account (name) VALUES (?)", [(f"name {n}",) for n in range(ROWS)])
    writer.execute("BEGIN")
    writer.execute("INSERT INTO account (name) VALUES ('not committed')")
    follow("sqlite", tmp_path, environment)
    writer.execute("ROLLBACK")
    alone = tmp_path / "alone.db"
    shutil.copy(live, alone)
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        sqlite3.connect(alone).execute("SELECT * FROM account")
    writer.close()


# --- a snapshot of a file system -------------------------------------------------------------------


@pytest.fixture
def btrfs(place: Path) -> Iterator[Path]:
    """A mounted btrfs of its own, with a subvolume."""
    if os.geteuid() != 0 or shutil.which("mkfs.btrfs") is None:
        pytest.skip("snapshots need root and mkfs.btrfs: apt-get install btrfs-progs")
    image, mounted = place / "image", place / "mounted"
    mounted.mkdir()
    with image.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mkfs.btrfs", "--quiet", image], check=True)
    done = subprocess.run(["mount", "-o", "loop", image, mounted], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"this machine cannot mount a btrfs: {done.stderr.strip()}")
    try:
        subprocess.run(["btrfs", "-q", "subvolume", "create", mounted / "data"], check=True)
        yield mounted / "data"
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_snapshots_of_a_btrfs_are_backed_up_as_the_original(place: Path, btrfs: Path) -> None:
    home = place / "home"
    home.mkdir()
    (btrfs / "letter.txt").write_text("Dear all,\n")
    (btrfs / "orders").mkdir()
    (btrfs / "orders" / "1").write_text("one")
    environment = docs.set_up(home)
    follow("snapshot", home, environment, {"/srv/data": str(btrfs)})
    assert differences_to_restic(home, btrfs) == []


def differences_to_restic(home: Path, folder: Path) -> list[str]:
    """What restic's own backup of the live folder has otherwise than the version of its snapshot: inodes,
    devices and times included. The folder itself had the snapshot in it for a while."""
    restic = ["restic", "--no-cache", "-r", home / "hq" / "repository", "-p", home / "etc" / "password"]
    subprocess.run([*restic, "backup", "--quiet", folder], check=True)
    listed = subprocess.run([*restic, "snapshots", "--json"], check=True, capture_output=True, text=True)
    ours, theirs = [one["id"] for one in json.loads(listed.stdout) if one["paths"] == [str(folder)]][-2:]
    command = [*restic, "diff", "--metadata", ours, theirs]
    diff = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "comparing snapshot" in diff
    return [line for line in diff.splitlines() if f"{folder}/" in line and not line.endswith(f" {folder}/")]
