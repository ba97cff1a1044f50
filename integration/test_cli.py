"""What every command prints, and where its options may stand."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from .command import CDR, Shell
from .hosts import Hierarchy, files_in

_BACKUP = """client version tree files_new files_changed files_unmodified dirs_new dirs_changed dirs_unmodified
    total_files_processed total_bytes_processed data_blobs tree_blobs data_added spooled_bytes total_duration"""
_SEND = "segments_sent bytes_sent bytes_resumed segments_waiting bytes_waiting"
_RECEIVE = "versions_stored versions_forwarded blobs_new blobs_duplicate blobs_missing bytes_in bytes_out"
SUMMARIES = {
    "backup": _BACKUP,
    "send -T laptop": _SEND,
    "receive -T branch": _RECEIVE,
    "send -T branch": _SEND,
    "receive -T hq": _RECEIVE,
    "restore latest --target out": """total_files files_restored files_skipped files_deleted total_bytes
        bytes_restored bytes_skipped""",
    "status": "tiers",
    "init": "made",
    "ticket": "group ticket",
    "config check": "config tiers",
}
"""In an order in which each has something to do; keys as documented."""

TIER = {"name", "role", "queue", "inbox_bytes", "retained_bytes", "waiting_for", "clients"}
TIERS_CLIENT = {"name", "group", "last_version", "last_stored", "last_receipt"}
SNAPSHOT = {"time", "tree", "paths", "hostname", "username", "tags", "id", "short_id"}
PLUGIN = {"kind", "name", "version", "distribution", "enabled"}


@pytest.fixture
def demo(shell: Shell) -> Shell:
    """A home whose ``cdr.toml`` is a hierarchy of three tiers with one version committed."""
    files_in(shell.folder / "files", letter="l")
    shell.cdr("quickstart", "files", "--at", "demo")
    (shell.folder / "cdr.toml").symlink_to("demo/cdr.toml")
    return Shell(shell.folder, {"CDR_CONFIG": str(shell.folder / "demo/cdr.toml")})


def test_summaries_have_the_documented_keys(demo: Shell) -> None:
    files_in(demo.folder / "files", second="2")
    for command, keys in SUMMARIES.items():
        done = demo.cdr(*command.split(), "--json")
        assert done.summary.keys() >= {*keys.split()}, command
        for line in done.err.splitlines():
            assert json.loads(line)["message_type"] in ("note", "error")
    for tier in demo.json("status")["tiers"]:
        assert tier.keys() >= TIER
        for client in tier["clients"]:
            assert client.keys() >= TIERS_CLIENT
            assert client["last_version"] == client["last_stored"] or tier["role"] == "client"


def test_lists_are_one_array(demo: Shell) -> None:
    (snapshots,) = demo.cdr("snapshots", "--json").documents
    assert [snapshot.keys() >= SNAPSHOT for snapshot in snapshots] == [True]
    (restics,) = demo.restic("-r", "demo/hq/repository", "-p", "demo/hq/password", "snapshots", "--json").documents
    assert [{key: one[key] for key in SNAPSHOT} for one in snapshots] == [
        {key: one[key] for key in SNAPSHOT} for one in restics
    ]
    (plugins,) = demo.cdr("plugins", "--json").documents
    assert all(plugin.keys() >= PLUGIN for plugin in plugins)
    assert {"file", "zstd", "restic", "rabin"} <= {plugin["name"] for plugin in plugins}
    (clients,) = demo.cdr("clients", "--json").documents
    assert [(c["name"], c["group"], c["state"]) for c in clients] == [("laptop", "demo", "approved")]
    (config,) = demo.cdr("config", "show", "--json").documents
    assert config["config"] == demo.variables["CDR_CONFIG"]


def test_enrolment_as_json(tmp_path: Path) -> None:
    hierarchy = Hierarchy(tmp_path).init()
    alice = hierarchy.prepare("alice")
    made = alice.json("init")["made"]
    assert any("identity" in line for line in made)
    (alice.folder / "ticket").write_text(hierarchy.hq.json("ticket")["ticket"])
    enrolled = alice.json("enroll", "ticket")
    assert (enrolled["client"], enrolled["group"]) == ("alice", "legal")
    assert alice.json("init")["made"] == []


def test_several_clients_of_one_file_have_one_summary(demo: Shell) -> None:
    """Counters add up; what one client alone has stands in ``clients``."""
    config = demo.folder / "demo/cdr.toml"
    files_in(demo.folder / "others", a="1", b="2")
    config.write_text(
        config.read_text() + f'[tier.tower]\ngroup = "demo"\nstate = "tower"\nidentity = "tower-id"\n'
        f'source.paths = ["{demo.folder}/others"]\nforward.to = "file:branch/inbox"\n'
    )
    demo.cdr("init")
    done = demo.json("backup")
    assert done.keys() >= {*_BACKUP.split()}
    assert done["total_files_processed"] == 3
    assert [(one["client"], one["version"]) for one in done["clients"]] == [("laptop", 2), ("tower", 1)]
    assert (done["client"], done["version"], done["tree"]) == (None, None, None)
    assert demo.json("backup", "-T", "tower")["version"] == 2


def test_people_can_read_it(demo: Shell) -> None:
    files_in(demo.folder / "files", second="2")
    backup, send = demo.cdr("backup").out, demo.cdr("send", "-T", "laptop").out
    assert "version 2 captured (not yet stored" in backup
    assert "files 1 new, 0 changed, 1 unmodified" in backup
    assert send.startswith("sent 1 segments, ") and send.rstrip().endswith("; 0 wait, 0 B")
    assert "waits for 'cdr receive'" in demo.cdr("status").out
    demo.cdr("receive", "-T", "branch")
    demo.cdr("send", "-T", "branch")
    assert "stored 1 versions: " in demo.cdr("receive", "-T", "hq").out
    assert demo.cdr("snapshots").out.splitlines()[-1] == "2 versions"
    assert "restored " in demo.cdr("restore", "latest", "--target", "out").out


def test_quiet_leaves_results_and_errors(demo: Shell) -> None:
    for command in ("backup", "send", "receive", "status", "snapshots", "plugins"):
        done = demo.cdr(command, "-q")
        assert done.out
        assert done.err == ""
    assert demo.cdr("-q", "backup", "missing", code=1).err


def test_common_options_stand_before_or_behind_the_command(demo: Shell) -> None:
    bare = Shell(demo.folder / "files")
    for arguments in (
        ["-c", "../demo/cdr.toml", "-T", "hq", "--json", "status"],
        ["status", "-c", "../demo/cdr.toml", "-T", "hq", "--json"],
        ["--json", "-T", "hq", "status", "--config", "../demo/cdr.toml"],
        ["--config=../demo/cdr.toml", "status", "--json", "--tier=hq"],
    ):
        assert [tier["name"] for tier in bare.cdr(*arguments).summary["tiers"]] == ["hq"]
    both = bare.cdr("-c", "../demo/cdr.toml", "-T", "hq", "status", "-T", "laptop", "--json").summary
    assert [tier["name"] for tier in both["tiers"]] == ["laptop", "hq"]


def test_where_the_configuration_is_found(demo: Shell) -> None:
    named = Shell(demo.folder / "files", demo.variables)
    assert named.json("status")["tiers"]
    here = Shell(demo.folder)
    assert here.json("config", "check")["config"] == str(demo.folder / "cdr.toml")
    (demo.folder / ".config" / "cdr").mkdir(parents=True)
    (demo.folder / ".config" / "cdr" / "cdr.toml").symlink_to(demo.folder / "demo/cdr.toml")
    elsewhere = Shell(demo.folder / "files", {"HOME": str(demo.folder)})
    assert elsewhere.json("config", "check")["config"] == str(demo.folder / ".config/cdr/cdr.toml")


def test_the_module_is_the_command(demo: Shell) -> None:
    module = demo.run(sys.executable, "-m", "cdr_plugin", "snapshots", "--json")
    assert module.out == demo.run(CDR, "snapshots", "--json").out
    assert demo.run(sys.executable, "-m", "cdr_plugin", "--version").out == demo.cdr("--version").out
    assert demo.run(sys.executable, "-m", "cdr_plugin", "bakup", code=1).error


def test_every_command_explains_itself(shell: Shell) -> None:
    listed = shell.cdr("--help").out.partition("commands:\n")[2].partition("\n\n")[0]
    for command in (line.split()[0] for line in listed.splitlines()):
        said = shell.cdr(command, "--help").out
        assert said.startswith(f"usage: cdr {command}")
        for option in ("--config", "--tier", "--json", "--quiet", "--verbose"):
            assert option in said


def test_a_closed_pipe_is_no_crash(demo: Shell) -> None:
    piped = demo.run("sh", "-c", f"{{ {CDR} plugins; echo $? >&2; }} | true")
    assert piped.err.strip() in ("0", "141")
