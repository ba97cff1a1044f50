"""An inbox with a limit, by the real commands."""

from __future__ import annotations

import os
import subprocess

from .command import CDR, Shell

CONFIG = """
[tier.laptop]
group = "g"
state = "laptop-state"
identity = "laptop-identity"
[tier.laptop.source]
paths = ["files"]
[tier.laptop.forward]
to = "branch-inbox"
[tier.branch]
state = "branch-state"
identity = "branch-identity"
[tier.branch.receive]
inbox = "branch-inbox"
max_size = "100KiB"
[tier.branch.spool]
max_size = "100KiB"
[tier.branch.forward]
to = "hq-inbox"
release = "durable"
[tier.hq]
state = "hq-state"
identity = "hq-identity"
[tier.hq.receive]
inbox = "hq-inbox"
max_size = "100KiB"
[tier.hq.store]
repository = "repository"
password_file = "password"
"""


def code_of(shell: Shell, command: str) -> int:
    done = subprocess.run([CDR, *command.split()], cwd=shell.folder, env=shell.environment(), capture_output=True)
    return done.returncode


def test_each_hop_waits_until_the_one_above_has_room_and_nothing_is_lost(shell: Shell) -> None:
    (shell.folder / "cdr.toml").write_text(CONFIG)
    (shell.folder / "password").write_text("a password\n")
    (shell.folder / "files").mkdir()
    shell.cdr("init")
    for number in range(3):
        (shell.folder / f"files/{number}").write_bytes(os.urandom(80_000))
        shell.cdr("backup")
        done = shell.cdr("send", "-T", "laptop", "--json", code=75 if number else 0)
        assert done.summary["segments_waiting"] == number
        assert done.summary["waiting_for"].startswith("waiting for room in the inbox (" if number else "")
    shell.cdr("receive", "-T", "branch")
    shell.cdr("send", "-T", "laptop", code=75)
    done = shell.cdr("receive", "-T", "branch", "--json", code=75)
    assert done.summary["waiting_for"].startswith("waiting for room in the spool (spool.max_size)")
    shell.cdr("send", "-T", "branch")
    shell.cdr("receive", "-T", "branch")
    assert "waiting for room in the inbox" in shell.cdr("send", "-T", "branch", code=75).err
    (hq,) = shell.json("status", "-T", "hq")["tiers"]
    assert (hq["inbox_limit"], hq["inbox_unknown_bytes"]) == (102400, hq["inbox_bytes"])  # not enrolled yet
    assert "of 100.000 KiB" in shell.cdr("status", "-T", "hq").out
    codes = [code_of(shell, step) for step in ("receive", "send") * 4]
    assert set(codes) <= {0, 75}
    (laptop,) = shell.json("status", "-T", "laptop")["tiers"]
    assert (laptop["clients"][0]["last_stored"], laptop["queue"]["segments"]) == (3, 0)
