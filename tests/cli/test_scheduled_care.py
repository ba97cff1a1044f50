"""``cdr check --scheduled``, ``cdr forget --scheduled`` and ``cdr status --check``, as users and monitors meet them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from cdr_plugin.agent.elapsed import Moment
from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.agent.ledger import write_ledger
from cdr_plugin.agent.scheduler import Record
from cdr_plugin.cli.health import DEFAULT_LIMIT_S, Health
from cdr_plugin.config.load import load_config
from tests.cli.test_status_and_policies import Host, host, no, yes

__all__ = ["host"]

DAY_S = 86400


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cdr_plugin.cli.scheduled.RETRY_LOCK_S", 0.0)


def keep(host: Host, *lines: str) -> None:
    """More lines for the ``store`` table, which ends the file."""
    path = host.folder / "cdr.toml"
    path.write_text(path.read_text() + "\n".join(lines) + "\n")


def store(host: Host, *lines: str, **policies: Any) -> None:
    """A hierarchy with one version in the repository."""
    host.make(**policies)
    keep(host, *lines)
    deliver(host)


def deliver(host: Host) -> None:
    for command in ("send", "receive", "send"):
        host.cdr(command)


def one_more(host: Host, content: bytes) -> None:
    (host.folder / "files/a").write_bytes(content)
    host.cdr("backup")
    deliver(host)


def damage(host: Host) -> None:
    """In the largest pack: the last version's data."""
    pack = max((p for p in (host.folder / "repository/data").rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    pack.chmod(0o600)
    data = bytearray(pack.read_bytes())
    data[500] ^= 1
    pack.write_bytes(data)


# --- check ---


def test_a_check_by_schedule_verifies_versions_which_both_ends_show(host: Host) -> None:
    store(host, 'check = { every = "7d", read_data_subset = "50%" }')
    out, _ = host.cdr("check", "--scheduled")
    assert out.startswith("hq, group home: no errors were found, 1 versions are verified; read part 1 of 2, ")
    assert host.versions("hq") == [(1, "verified")]
    assert host.versions("laptop") == [(1, "committed")]
    host.cdr("send")
    assert host.versions("laptop") == [(1, "verified")]
    assert host.status("hq")["clients"][0]["last_verified"] == 1
    (care,) = host.status("hq")["care"]
    assert (care["group"], care["check"]["errors"], care["check"]["part"], care["check"]["parts"]) == ("home", 0, 1, 2)
    assert care["check"]["all_read_since"] is None
    host.cdr("check", "--scheduled", "--now")
    assert host.status("hq")["care"][0]["check"]["all_read_since"] is not None
    assert "part 2 of 2 read, all read since" in host.cdr("status")[0]


def test_damage_is_one_line_and_exit_code_1_and_status_names_it(host: Host) -> None:
    store(host, 'check = { read_data_subset = "100%" }')
    one_more(host, Random(3).randbytes(20_000))  # does not compress: its pack is the largest
    host.cdr("check", "--scheduled")
    damage(host)
    out, err = host.cdr("check", "--scheduled", "--now", code=1)
    assert (out, len(err.splitlines())) == ("", 1)
    assert f"damage in repository {host.folder}/repository: " in err and "1 versions are not verified any more" in err
    assert "'cdr check --read-data-subset 1/1' names what is hit and how to mend it" in err
    assert host.versions("hq") == [(2, "committed")]
    assert "ERRORS, the first: " in host.cdr("status")[0]
    (problem,) = host.json("status", "--check", code=1)["problems"]
    assert problem["tier"] == "hq" and problem["problem"].startswith("group home: the last check found ")


def test_what_was_done_lately_is_not_done_again_unless_told_to(host: Host) -> None:
    store(host, "check = {}", "forget = { keep_last = 1 }")
    assert [g["skipped"] for g in host.json("check", "--scheduled")["groups"]] == [False]
    assert [g["skipped"] for g in host.json("check", "--scheduled")["groups"]] == [True]
    assert [g["skipped"] for g in host.json("check", "--scheduled", "--now")["groups"]] == [False]
    assert [g["skipped"] for g in host.json("forget", "--scheduled")["groups"]] == [False]
    assert [g["skipped"] for g in host.json("forget", "--scheduled")["groups"]] == [True]


def test_care_waits_for_its_own_conditions(host: Host) -> None:
    store(host, yes(host), "check = {}", "forget = { keep_last = 1 }")
    reason = no(host)
    for command in ("check", "forget"):
        _, err = host.cdr(command, "--scheduled", code=75)
        assert err == f"hq: {reason}\n"
        found = host.json(command, "--scheduled", code=75)
        assert (found["waiting_for"], found["completed"]) == (reason, False)
        assert host.json(command, "--scheduled", "--now")["completed"]


def test_without_a_schedule_it_says_so(host: Host) -> None:
    store(host)
    assert "no tier to check in " in host.cdr("check", "--scheduled", code=1)[1]
    assert "tier hq: no store.forget in " in host.cdr("forget", "--scheduled", "-T", "hq", code=1)[1]


def test_a_repository_that_is_in_use_is_no_failure_and_nothing_is_noted(host: Host) -> None:
    store(host, "check = {}")
    from cdr_restic.journal import Journal
    from tests.restic.world import Place

    place = Place(host.folder / "repository", host.folder / "hq/home/repository", "secret")
    with Journal(place.state, place.repository().id):
        assert "another process is writing" in host.cdr("check", "--scheduled", code=11)[1]
    assert host.status("hq")["care"][0]["check"] is None


# --- forget ---


def test_a_forget_by_schedule_keeps_what_the_configuration_says(host: Host) -> None:
    store(host, "forget = { keep_last = 2, prune = true }")
    for number in range(4):
        one_more(host, b"version %d" % number)
    found = host.json("forget", "--scheduled")
    (group,) = found["groups"]
    assert (found["versions_removed"], group["versions_kept"], group["pruned"]) == (3, 2, True)
    assert len(json.loads(host.cdr("snapshots", "--json")[0])) == 2
    assert "forgot now: 3 removed, 2 kept" in host.cdr("status")[0]
    host.cdr("check", "--read-data")


def test_it_takes_nothing_else_from_the_command_line(host: Host) -> None:
    store(host, "forget = { keep_last = 2 }")
    for more in (("--keep-last", "1"), ("latest",), ("--dry-run",)):
        assert "takes its policy from the configuration" in host.cdr("forget", "--scheduled", *more, code=1)[1]


@pytest.mark.parametrize("table", ["forget = {}", "forget = { prune = true }", "forget = { keep_last = 0 }"])
def test_a_forget_that_says_nothing_to_keep_is_an_error_of_the_file(host: Host, table: str) -> None:
    host.make()
    keep(host, table)
    _, err = host.cdr("status", code=1)
    assert "tier.hq.store.forget: it says nothing to keep; give it at least one rule" in err


# --- monitoring ---


def test_all_is_well(host: Host) -> None:
    store(host, "check = {}", laptop='when = { every = "1h" }')
    assert host.cdr("status", "--check")[0] == "all is well with 2 tiers\n"
    found = host.json("status", "--check")
    assert (found["ok"], found["problems"], len(found["tiers"])) == (True, [], 2)


def problems(host: Host, later_s: float = 0, limit_s: float = DEFAULT_LIMIT_S, **jobs: Record) -> list[str]:
    """What would be said so much later, if nothing came to pass."""
    config = load_config(host.folder / "cdr.toml")
    statuses: Mapping[str, Any] = {one["name"]: one for one in host.json("status")["tiers"]}
    health = Health(config, limit_s, time.time() + later_s)
    return [
        str(problem)
        for tier in config.tiers.values()
        for problem in health.problems(tier, statuses[tier.name], jobs)
    ]


def test_a_client_is_silent_after_three_of_its_intervals(host: Host) -> None:
    store(host)
    path = host.folder / "cdr.toml"
    path.write_text(path.read_text().replace('paths = ["files"]', 'paths = ["files"]\nsource.when = { every = "1d" }'))
    assert problems(host, 2.9 * DAY_S) == []
    assert problems(host, 3.1 * DAY_S) == [
        "laptop: no new version for 3 days",
        "client laptop of hq: no new version for 3 days",
    ]


def test_where_no_interval_is_known_a_week_counts_or_what_is_given(host: Host) -> None:
    store(host)
    assert problems(host, 6.9 * DAY_S) == []
    found = problems(host, 7.1 * DAY_S)
    assert "laptop: no new version for 7 days" in found
    assert "hq: nothing was received for 7 days: 'cdr receive' has not run" in found
    assert problems(host, 2 * DAY_S, limit_s=DAY_S)
    assert any(one.endswith(" seconds") for one in problems(host, 20, limit_s=10))
    assert host.json("status", "--check", "--max-age", "1h")["ok"]
    assert "expected a duration" in host.cdr("status", "--check", "--max-age", "soon", code=1)[1]


def test_versions_that_never_arrive_are_named(host: Host) -> None:
    host.make()
    deliver(host)
    (host.folder / "files/a").write_bytes(b"more")
    host.cdr("backup")
    found = problems(host, 0)
    assert found == []
    # Versions go on being made, and none is committed.
    status = host.status("laptop")
    (client,) = status["clients"]
    old, new = client["versions"]
    old["time"] = "2020-01-01T00:00:00Z"
    config = load_config(host.folder / "cdr.toml")
    told = list(Health(config, DEFAULT_LIMIT_S, time.time()).problems(config.tiers["laptop"], status, {}))
    assert [one.text.split(" for ")[0] for one in told] == ["nothing was committed"]
    assert told[0].text.endswith(f"version {new['number']} is captured")


def test_a_queue_that_does_not_move_is_named(host: Host) -> None:
    host.make()
    assert any("segments wait, nothing was sent for 8 days" in one for one in problems(host, 8.1 * DAY_S))


def test_a_client_that_enrolled_and_never_sent_anything_is_named(host: Host) -> None:
    host.make()
    host.cdr("receive")
    host.cdr("send")
    host.cdr("receive")
    found = problems(host, 8 * DAY_S)
    assert any(one.startswith("client laptop of hq: ") for one in found)


def test_checks_and_forgets_that_are_overdue_are_named(host: Host) -> None:
    store(host, 'check = { every = "1d" }', 'forget = { keep_last = 1, every = "2d" }')
    never = "hq: group home: the check has never been done, and is overdue: 3 days; see 'cdr run'"
    assert problems(host, 3.1 * DAY_S) == [never]
    host.cdr("check", "--scheduled")
    host.cdr("forget", "--scheduled")
    assert problems(host, 2.9 * DAY_S) == []
    found = [one for one in problems(host, 6.1 * DAY_S) if "overdue" in one]
    assert found == [
        "hq: group home: the check is overdue: 6 days; see 'cdr run'",
        "hq: group home: the forget is overdue: 6 days; see 'cdr run'",
    ]


def test_jobs_that_keep_failing_are_named(host: Host) -> None:
    store(host)
    write_ledger(host.folder / "laptop", {JobKind.SEND: Record(Moment(5.0), 3, "the storage is away")})
    out, _ = host.cdr("status", "--check", code=1)
    assert out == "laptop: send failed 3 times in a row: the storage is away\n"
    write_ledger(host.folder / "laptop", {JobKind.SEND: Record(Moment(5.0), 2, "the storage is away")})
    host.cdr("status", "--check")


def test_a_tier_that_cannot_be_looked_at_is_named(host: Host) -> None:
    store(host)
    (host.folder / "inbox").rename(host.folder / "away")
    out, _ = host.cdr("status", "--check", code=1)
    assert out.startswith("hq: opening the storage ") and len(out.splitlines()) == 1


def test_a_revoked_client_may_be_silent(host: Host) -> None:
    store(host)
    host.cdr("clients", "revoke", "laptop", "-T", "hq")
    assert [one for one in problems(host, 30 * DAY_S) if one.startswith("client laptop of hq")] == []




# --- target reduction ---


def test_after_landing_it_is_reduced_when_convenient(host: Host) -> None:
    host.make()
    keep(host, 'reduce = "after"', yes(host))
    host.cdr("send")
    host.cdr("receive")
    host.cdr("send")
    assert host.versions("laptop") == [(1, "committed")]
    reason = no(host)
    (host.folder / "files/a").write_bytes(b"more")
    host.cdr("backup")
    host.cdr("send")
    found = host.json("receive", code=75)
    assert found["bytes_landed"] > 0 and (found["versions_stored"], found["waiting_for"]) == (0, reason)
    assert host.status("hq")["landed_bytes"] == found["bytes_landed"]
    assert ", landed " in host.cdr("status")[0]
    host.cdr("send")
    assert host.versions("laptop") == [(1, "committed"), (2, "at tier hq")]
    assert host.cdr("receive", code=75)[1] == f"hq: {reason}\n"
    assert host.json("receive", "--now")["versions_stored"] == 1
    assert host.status("hq")["landed_bytes"] == 0
    assert host.json("receive")["waiting_for"] == reason  # but nothing waits for it
    host.cdr("send")
    assert host.versions("laptop") == [(2, "committed")]


def test_what_has_landed_is_reduced_when_the_configuration_says_inline_again(host: Host) -> None:
    host.make()
    keep(host, 'reduce = "after"', yes(host))
    host.cdr("send")
    no(host)
    host.cdr("receive", code=75)
    path = host.folder / "cdr.toml"
    path.write_text(path.read_text().replace('reduce = "after"', 'reduce = "inline"'))
    assert host.json("receive")["versions_stored"] == 1
    assert host.status("hq")["landed_bytes"] == 0
