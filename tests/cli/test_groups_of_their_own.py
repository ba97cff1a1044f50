"""Groups of one top tier with conditions, bandwidth and a quota of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.agent.jobs import JobKind, jobs_of
from cdr_plugin.assembly import top_tiers
from cdr_plugin.cli.main import main
from cdr_plugin.config.load import load_config
from cdr_plugin.plugins import installed
from cdr_plugin.reporter import Reporter
from tests.cli.test_status_and_policies import _quick_create

CLIENT = """
[tier.{name}]
group = "{name}"
state = "{name}/state"
identity = "{name}/identity"
source.paths = ["files"]
forward.to = "file:inbox"
"""
TOP = """
[tier.hq]
state = "hq/state"
identity = "hq/identity"
[tier.hq.receive]
inbox = "file:inbox"
{receive}
[tier.hq.group.home]
{home}
[tier.hq.group.work]
{work}
[tier.hq.store]
repository = "repository/{{group}}"
password_file = "password"
"""


class Host:
    """Clients ``home`` and ``work`` of the groups of their names, and the top tier of both, in one file."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    @property
    def file(self) -> Path:
        return self.folder / "cdr.toml"

    def write(self, **tables: str) -> None:
        clients = "".join(CLIENT.format(name=name) for name in ("home", "work"))
        self.file.write_text(clients + TOP.format(**{"receive": "", "home": "", "work": "", **tables}))

    def cdr(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        found = main([*arguments, "-c", str(self.file)])
        said = self._capsys.readouterr()
        assert found == code, said.out + said.err
        return said.out, said.err

    def json(self, *arguments: str, code: int = 0) -> Mapping[str, Any]:
        summary: Mapping[str, Any] = json.loads(self.cdr(*arguments, "--json", code=code)[0].splitlines()[-1])
        return summary

    def committed(self) -> set[str]:
        (hq,) = (tier for tier in self.json("status")["tiers"] if tier["name"] == "hq")
        return {client["name"] for client in hq["clients"] if client["last_stored"]}


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr("cdr_restic.plugin.ResticFormat.create", _quick_create)
    monkeypatch.setenv("HOME", str(tmp_path))
    made = Host(tmp_path, capsys)
    made.write()
    (tmp_path / "password").write_text("secret")
    (tmp_path / "files").mkdir()
    (tmp_path / "files/a").write_bytes(os.urandom(50_000))
    for command in ("init", "backup", "send"):
        made.cdr(command)
    return made


NEVER = 'when = { command = "false" }'


def test_one_group_is_taken_while_the_other_waits_for_its_own_condition(host: Host) -> None:
    host.write(work=NEVER)
    out, err = host.cdr("receive", code=75)
    assert "stored 1 versions" in out and "hq, group work: waiting for the command 'false'" in err
    assert host.committed() == {"home"}
    (hq,) = (tier for tier in host.json("status")["tiers"] if tier["name"] == "hq")
    assert "waiting for the command 'false'" in hq["waiting_for"]
    host.cdr("receive", "--now")
    assert host.committed() == {"home", "work"}
    host.cdr("receive")  # nothing waits any more


def test_a_group_s_own_condition_stands_in_place_of_the_tier_s(host: Host) -> None:
    host.write(receive=NEVER, work="when = {}")
    host.cdr("receive", code=75)
    assert host.committed() == {"work"}


def test_every_counts_for_each_group(host: Host) -> None:
    host.write(work='when = { every = "1h" }')
    host.cdr("receive")
    (host.folder / "files/b").write_text("new")
    host.cdr("backup")
    host.cdr("send")
    assert host.json("receive", code=75)["versions_stored"] == 1


def test_the_agent_leaves_the_conditions_of_groups_to_the_command(host: Host) -> None:
    host.write(receive=NEVER, work="when = {}")
    (job,) = (job for job in jobs_of(load_config(host.file).tiers.values()) if job.kind is JobKind.RECEIVE)
    assert not job.conditions


def test_a_group_s_limit_is_a_bucket_of_its_own(host: Host) -> None:
    host.write(receive='limit = "1MiB/s"', work='limit = "2MiB/s"')
    config = load_config(host.file)
    home, work = top_tiers(config, config.tiers["hq"], installed(), Reporter())
    assert home.plugins is not work.plugins
    buckets = [top.plugins._bucket for top in (home, work)]
    assert [bucket._rate for bucket in buckets if bucket is not None] == [1 << 20, 2 << 20]


def test_a_quota_holds_up_its_group_alone_and_says_so_on_both_sides(host: Host) -> None:
    host.write(work='quota = "10KiB"')
    _, err = host.cdr("receive")
    assert "client work: above its quota of 10240 bytes; 1 segments stay in the inbox" in err
    assert host.committed() == {"home"}
    host.cdr("send")
    out, _ = host.cdr("status")
    assert "the quota of 10240 bytes is used up" in out
    assert "work: 0 B of its quota of 10.000 KiB" in out
    host.write(work='quota = "1GiB"')
    host.cdr("receive")
    host.cdr("send")
    assert host.committed() == {"home", "work"} and "quota of 10240" not in host.cdr("status")[0]


@pytest.mark.parametrize("key", ['quota = "1GiB"', "when = {}", 'limit = "1MiB/s"'])
def test_a_tier_that_opens_nothing_refuses_them_in_one_line(host: Host, key: str) -> None:
    text = f'[tier.b]\nreceive.inbox = "in"\nforward.to = "up"\n[tier.b.group.g]\n{key}\n'
    host.file.write_text(text)
    _, err = host.cdr("receive", code=1)
    assert "of a tier that opens nothing is not carried out by this version" in err and err.count("\n") == 1
