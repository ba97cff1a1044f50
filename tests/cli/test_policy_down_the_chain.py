"""A policy that the top publishes reaches a tier that reduces and the client below it, each for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.config.load import load_config
from tests.cli.test_status_and_policies import _quick_create

FILE = """
[tier.laptop]
group = "g"
state = "laptop/state"
identity = "laptop/identity"
policy = "inherit"
source.paths = ["files"]
forward.to = "file:lower"
[tier.branch]
state = "branch/state"
identity = "branch/identity"
policy = "inherit"
reduce.methods = ["commonality"]
[tier.branch.receive]
inbox = "file:lower"
limit = "4MiB/s"
[tier.branch.forward]
to = "file:inbox"
[tier.hq]
state = "hq/state"
identity = "hq/identity"
[tier.hq.receive]
inbox = "file:inbox"
[tier.hq.group.g]
[tier.hq.store]
repository = "repository"
password_file = "password"
"""
POLICY = """
[source]
exclude = ["*.iso"]
[forward]
limit = "1MiB/s"
[receive]
limit = "2MiB/s"
retain = { for = "7d" }
[spool]
max_size = "1GiB"
"""


def test_each_tier_adopts_what_is_its_and_a_branch_cannot_speak_for_the_top(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cdr_restic.plugin.ResticFormat.create", _quick_create)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "cdr.toml"
    file.write_text(FILE)
    (tmp_path / "password").write_text("secret")
    (tmp_path / "policy.toml").write_text(POLICY)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_text("content")

    def cdr(*arguments: str, code: int = 0) -> str:
        found = main([*arguments, "-c", str(file)])
        said = capsys.readouterr()
        assert found == code, said.out + said.err
        return said.out + said.err

    cdr("init")
    cdr("backup")
    for command in ("send -T laptop", "send -T branch", "receive -T branch", "send -T branch", "receive -T hq"):
        cdr(*command.split())
    for command in ("send -T branch", "receive -T branch", "send -T branch", "receive -T hq"):
        cdr(*command.split())
    cdr("policy", "publish", str(tmp_path / "policy.toml"), "-T", "branch", code=1)
    cdr("policy", "publish", str(tmp_path / "policy.toml"))
    cdr("send", "-T", "branch")
    cdr("send", "-T", "laptop")
    config = load_config(file)
    laptop, branch = config.tiers["laptop"], config.tiers["branch"]
    assert laptop.source and laptop.forward and branch.receive and branch.forward
    assert (laptop.source.exclude, laptop.forward.limit) == (("*.iso",), 1 << 20)
    assert (branch.receive.limit, branch.forward.limit) == (2 << 20, 1 << 20)
    assert (branch.receive.retain.for_s, branch.spool.max_size) == (7 * 86400, 1 << 30)
    shown = cdr("policy", "show")
    assert "branch, group g: adopted from hq" in shown and "laptop, group g: adopted from hq" in shown
    cdr("receive", "-T", "branch")  # with what is in force now
