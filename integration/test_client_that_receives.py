"""A tier that is a client and passes on what others send to it."""

from __future__ import annotations

import json

from .command import Shell

CONFIG = """
[tier.laptop]
group = "g"
state = "laptop-state"
identity = "laptop-identity"
[tier.laptop.source]
paths = ["laptop-files"]
[tier.laptop.forward]
to = "office-inbox"
[tier.office]
group = "g"
state = "office-state"
identity = "office-identity"
[tier.office.source]
paths = ["office-files"]
[tier.office.receive]
inbox = "office-inbox"
[tier.office.forward]
to = "hq-inbox"
[tier.hq]
state = "hq-state"
identity = "hq-identity"
[tier.hq.receive]
inbox = "hq-inbox"
[tier.hq.store]
repository = "repository"
password_file = "password"
"""


def test_both_its_own_versions_and_those_of_others_arrive(shell: Shell) -> None:
    (shell.folder / "cdr.toml").write_text(CONFIG)
    (shell.folder / "password").write_text("a password\n")
    for name in ("laptop", "office"):
        (shell.folder / f"{name}-files").mkdir()
        (shell.folder / f"{name}-files/file").write_text(name)
    shell.cdr("init")
    shell.cdr("backup")
    shell.cdr("send", "-T", "laptop")
    shell.cdr("receive", "-T", "office")
    shell.cdr("backup", "-T", "office")  # leaves alone what is to be passed on
    (office,) = shell.json("status", "-T", "office")["tiers"]
    assert office["queue"]["segments"] == 3
    done = shell.json("send", "-T", "office")
    assert (done["segments_sent"], done["segments_waiting"]) == (3, 0)
    shell.cdr("receive", "-T", "hq")
    for _ in range(2):
        shell.cdr("send")
    listed = shell.restic("-r", "repository", "-p", "password", "snapshots", "--json").out
    assert sorted(one["hostname"] for one in json.loads(listed)) == ["laptop", "office", "office"]
    (laptop,) = shell.json("status", "-T", "laptop")["tiers"]
    assert laptop["clients"][0]["state"] == "committed"
