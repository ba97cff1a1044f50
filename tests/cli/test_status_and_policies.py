"""``cdr send``, ``cdr receive`` and ``cdr status`` under policies: a whole hierarchy in one file, in this process."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.client.send import Sender
from cdr_plugin.contracts import Verdict
from cdr_plugin.convenience import SENT, Convenience, last_done_s, note_done
from cdr_plugin.tier_state import TierState
from cdr_restic.creating import create_repository
from cdr_restic.local import LocalStorage
from tests.restic.world import QUICK

FILE = """\
[tier.laptop]
group = "home"
state = "laptop"
identity = "laptop-identity"
source.paths = ["files"]
[tier.laptop.forward]
to = "file:{above}"
{laptop}
{branch}
[tier.hq]
state = "hq"
identity = "hq-identity"
[tier.hq.group.home]
[tier.hq.receive]
inbox = "file:inbox"
{hq}
[tier.hq.store]
repository = "repository"
password_file = "password"
"""
BRANCH = """\
[tier.branch]
state = "branch"
identity = "branch-identity"
[tier.branch.receive]
inbox = "file:lower"
[tier.branch.forward]
to = "file:inbox"
"""


class Host:
    """One machine with all tiers of ``cdr.toml``; each condition is a file that must not be there."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, *, laptop: str = "", branch: str | None = None, hq: str = "") -> None:
        above = "inbox" if branch is None else "lower"
        middle = "" if branch is None else BRANCH + branch
        text = FILE.format(above=above, laptop=laptop, branch=middle, hq=hq)
        (self.folder / "cdr.toml").write_text(text)

    def make(self, **policies: Any) -> None:
        """Everything initialised and enrolled, and one version captured."""
        (self.folder / "password").write_text("secret")
        (self.folder / "files").mkdir()
        (self.folder / "files/a").write_bytes(b"content")
        self.write(**policies)
        self.cdr("init")
        self.cdr("backup")

    def cdr(self, *arguments: str, code: int = 0) -> tuple[str, str]:
        found = main([*arguments, "-c", str(self.folder / "cdr.toml")])
        said = self._capsys.readouterr()
        assert found == code, said.out + said.err
        return said.out, said.err

    def json(self, *arguments: str, code: int = 0) -> Mapping[str, Any]:
        out, _ = self.cdr(*arguments, "--json", code=code)
        summary: Mapping[str, Any] = json.loads(out.splitlines()[-1])
        return summary

    def status(self, tier: str) -> dict[str, Any]:
        (found,) = (one for one in self.json("status")["tiers"] if one["name"] == tier)
        return dict(found)

    def versions(self, tier: str) -> list[tuple[int, str]]:
        (client,) = self.status(tier)["clients"]
        return [(one["number"], one["state"]) for one in client["versions"]]


@pytest.fixture
def host(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr("cdr_restic.plugin.ResticFormat.create", _quick_create)
    monkeypatch.setenv("HOME", str(tmp_path))
    return Host(tmp_path, capsys)


def _quick_create(_: object, location: str, options: Any, chunker: Any) -> object:
    return create_repository(LocalStorage(location), options, chunker, QUICK)


def yes(host: Host) -> str:
    """Convenient as long as there is no file of this name."""
    return f'when = {{ command = "test ! -e {host.folder}/no" }}'


def no(host: Host) -> str:
    """Let the condition fail; what is waited for then."""
    (host.folder / "no").touch()
    return f"waiting for the command 'test ! -e {host.folder}/no' to agree (exit code 1)"


def test_nothing_is_sent_while_it_is_not_convenient_and_the_reason_is_one_line(host: Host) -> None:
    host.make(laptop=yes(host))
    reason = no(host)
    out, err = host.cdr("send", code=75)
    assert err == f"laptop: {reason}\n"
    assert out.startswith("sent 0 segments, 0 B; 1 wait, ")
    summary = host.json("send", code=75)
    assert (summary["segments_sent"], summary["segments_waiting"], summary["waiting_for"]) == (0, 1, reason)
    assert list((host.folder / "inbox").rglob("*")) == []


def test_now_goes_ahead(host: Host) -> None:
    host.make(laptop=yes(host), hq=yes(host))
    no(host)
    assert host.json("send", "--now")["segments_sent"] == 1
    assert host.json("receive", code=75)["versions_stored"] == 0
    assert host.json("receive", "--now")["versions_stored"] == 1


def test_without_anything_that_waits_it_is_no_failure(host: Host) -> None:
    host.make(laptop=yes(host), hq=yes(host))
    host.cdr("send")
    host.cdr("receive")
    reason = no(host)
    for command in ("send", "receive"):
        summary = host.json(command)
        assert summary["waiting_for"] == reason


def test_receiving_waits_for_its_own_policy_and_says_so(host: Host) -> None:
    host.make(hq=yes(host))
    host.cdr("send")
    reason = no(host)
    _, err = host.cdr("receive", code=75)
    assert err == f"hq: {reason}\n"
    assert host.status("hq")["waiting_for"] == reason
    (host.folder / "no").unlink()
    assert host.status("hq")["waiting_for"] == "'cdr receive'"
    host.cdr("receive")
    assert host.status("hq")["waiting_for"] == ""


def test_an_intermediate_tier_has_policies_for_both_directions(host: Host) -> None:
    host.make(branch=yes(host))
    host.cdr("send", "-T", "laptop")
    assert host.status("branch")["waiting_for"] == "'cdr receive'"
    host.cdr("receive", "-T", "branch")
    reason = no(host)
    assert host.status("branch")["waiting_for"] == reason
    assert host.json("send", "-T", "branch", code=75)["segments_waiting"] == 1
    assert host.json("send", "-T", "branch", "--now")["segments_sent"] == 1
    assert host.versions("laptop") == [(1, "in transit")]


def test_sending_stops_between_segments_when_it_is_no_longer_convenient(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.make(laptop=yes(host))
    for number in range(2):
        (host.folder / f"files/{number}").write_bytes(b"%d" % number)
        host.cdr("backup")
    monkeypatch.setattr("cdr_plugin.convenience.RECHECK_S", 0.0)
    send_next = Sender.send_next

    def send_one_and_leave(sender: Sender) -> bool:
        no(host)
        return send_next(sender)

    monkeypatch.setattr(Sender, "send_next", send_one_and_leave)
    summary = host.json("send", code=75)
    assert (summary["segments_sent"], summary["segments_waiting"]) == (1, 2)
    assert summary["waiting_for"].startswith("waiting for the command")
    assert host.status("laptop")["last_sent"] is None  # not done yet
    assert host.versions("laptop") == [(1, "in transit"), (2, "captured"), (3, "captured")]


def test_what_was_done_is_remembered_for_every(host: Host) -> None:
    host.make(laptop='when = { every = "1h" }', hq='when = { every = "2h" }')
    host.cdr("send")
    host.cdr("receive")
    host.cdr("backup", "--force")
    assert re.fullmatch(
        r"waiting for 1h to pass since the last time \(\d+m\d*s? left\)", host.json("send", code=75)["waiting_for"]
    )
    _age(host.folder / "laptop", 3601)
    assert host.json("send")["segments_sent"] == 1
    assert "waiting for 2h" in host.json("receive", code=75)["waiting_for"]


def _age(tier: Path, seconds: float) -> None:
    state = TierState(tier / "tier", "", 1)
    done_s = last_done_s(state, SENT)
    assert done_s is not None
    note_done(state, SENT, done_s - seconds)
    state.close()


def test_a_limit_slows_and_does_not_stop(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("cdr_plugin.transports.throttle.TokenBucket.pay", lambda _bucket, count: slept.append(count))
    host.make(laptop='limit = "1KiB/s"', branch='limit = "1KiB/s"', hq='limit = "1KiB/s"')
    for step in ("send -T laptop", "send -T branch", "receive -T hq"):
        if step == "send -T branch":
            host.cdr("receive", "-T", "branch")
        before = sum(slept)
        host.cdr(*step.split())
        assert sum(slept) > before, step


def test_what_a_tier_holds_is_shown_also_when_its_inbox_is_out_of_reach(host: Host) -> None:
    host.make(branch="")
    host.cdr("send", "-T", "laptop")
    host.cdr("receive", "-T", "branch")
    (host.folder / "lower").rename(host.folder / "unmounted")
    status = host.status("branch")
    assert status["queue"]["segments"] == 1
    assert status["waiting_for"].startswith("'cdr send'; opening the storage")


def test_status_shows_each_version_where_it_is(host: Host) -> None:
    host.make()
    assert host.versions("laptop") == [(1, "captured")]
    host.cdr("send")
    assert host.versions("laptop") == [(1, "in transit")]
    host.cdr("receive")
    assert host.versions("hq") == [(1, "committed")]
    host.cdr("send")
    host.cdr("backup", "--force")
    assert host.versions("laptop") == [(1, "committed"), (2, "captured")]
    (client,) = host.status("laptop")["clients"]
    assert (client["last_version"], client["last_stored"], client["state"]) == (2, 1, "captured")
    assert all(0 <= version["age_s"] < 3600 for version in client["versions"])


def test_status_names_every_condition_and_when_to_ask_again(host: Host) -> None:
    host.make(laptop=yes(host).replace("{ ", '{ every = "1h", '))
    host.cdr("send")
    host.cdr("backup", "--force")
    command = no(host)
    status = host.status("laptop")
    every, _, other = status["waiting_for"].partition("; ")
    assert every.startswith("waiting for 1h to pass since the last time")
    assert other == command
    assert status["ask_again"] > status["last_sent"]
    out, _ = host.cdr("status")
    line = out.splitlines()[0]
    assert "queue 1 segments" in line
    assert "; waits for 1h to pass since the last time" in line
    assert f"; {command}; asked again {status['ask_again'][:4]}" in line
    assert line.endswith("; last sent now")


def test_status_tells_people_what_it_tells_programs(host: Host) -> None:
    host.make()
    out, _ = host.cdr("status")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert re.fullmatch(r"laptop \(client\): queue 1 segments, \S+ \S+; inbox 0 B; waits for 'cdr send'", lines[0])
    assert lines[1] == "client group version state made last contact"
    assert lines[3] == "laptop home 1 captured now -"
    assert lines[4] == "hq (top): queue 0 segments, 0 B; inbox 0 B"


def test_asking_for_the_status_makes_nothing(host: Host) -> None:
    host.make()
    before = sorted(host.folder.rglob("*"))
    host.cdr("status")
    assert sorted(path for path in host.folder.rglob("*") if not path.name.endswith(("-wal", "-shm"))) == [
        path for path in before if not path.name.endswith(("-wal", "-shm"))
    ]


def test_a_policy_is_not_asked_about_what_does_not_wait(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.make(hq=yes(host))
    asked: list[Convenience] = []

    def ask(policy: Convenience, _done_s: float | None = None) -> Verdict:
        asked.append(policy)
        return Verdict(True)

    monkeypatch.setattr(Convenience, "ask", ask)
    host.cdr("status", "-T", "hq")
    assert asked == []
