"""Which jobs a configuration asks for, and which build on which."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.agent.jobs import Job, JobKind, followers, jobs_of, upward
from cdr_plugin.config import Config
from cdr_plugin.config.load import parse_config

CHAIN = """
[tier.hq]
receive.inbox = "hq/in"
store.repository = "repo"
[tier.hq.group.g]
[tier.branch]
receive = { inbox = "branch/in", when = { every = "5s" } }
forward.to = "hq/in"
[tier.alice]
group = "g"
forward.to = "branch/in"
source = { paths = ["x"], when = { window = "08:00-18:00" } }
"""


@pytest.fixture
def chain(tmp_path: Path) -> Config:
    return parse_config(CHAIN, tmp_path / "cdr.toml")


def job(config: Config, tier: str, kind: JobKind) -> Job:
    return next(job for job in jobs_of(config.tiers.values()) if job.key == (tier, kind))


def test_every_role_has_its_jobs(chain: Config) -> None:
    assert {(job.tier, job.kind.value) for job in jobs_of(chain.tiers.values())} == {
        ("alice", "backup"),
        ("alice", "send"),
        ("branch", "receive"),
        ("branch", "send"),
        ("hq", "receive"),
    }


def test_without_every_versions_are_made_once_a_day_also_with_other_conditions(chain: Config) -> None:
    backup = job(chain, "alice", JobKind.BACKUP)
    assert (backup.every_s, backup.on_demand, backup.conditions) == (86400, False, {"window": "08:00-18:00"})


def test_who_says_how_often_is_taken_at_his_word(chain: Config) -> None:
    assert job(chain, "branch", JobKind.RECEIVE) == Job("branch", JobKind.RECEIVE, 5, on_demand=False)
    assert job(chain, "hq", JobKind.RECEIVE).on_demand


def test_what_was_made_is_sent_what_was_sent_is_taken_and_what_was_stored_is_answered(chain: Config) -> None:
    def after(tier: str, kind: JobKind) -> set[tuple[str, str]]:
        return {(name, follower.value) for name, follower in followers(chain, job(chain, tier, kind))}

    assert after("alice", JobKind.BACKUP) == {("alice", "send")}
    assert after("alice", JobKind.SEND) == {("branch", "receive")}
    assert after("branch", JobKind.RECEIVE) == {("branch", "send")}
    assert after("branch", JobKind.SEND) == {("hq", "receive")}
    assert after("hq", JobKind.RECEIVE) == {("branch", "send")}


def test_one_round_goes_upward_so_that_each_finds_what_the_others_made(chain: Config) -> None:
    order = [f"{job.tier} {job.kind}" for job in upward(chain, jobs_of(chain.tiers.values()))]
    assert order == ["alice backup", "alice send", "branch receive", "branch send", "hq receive"]


CARED_FOR = CHAIN.replace(
    'store.repository = "repo"',
    'store = { repository = "repo", check = {}, forget = { keep_last = 5, every = "12h" }, '
    'when = { window = "01:00-05:00" } }',
)


def test_a_store_is_checked_and_forgotten_as_it_says(tmp_path: Path) -> None:
    config = parse_config(CARED_FOR, tmp_path / "cdr.toml")
    check, forget = job(config, "hq", JobKind.CHECK), job(config, "hq", JobKind.FORGET)
    assert (check.every_s, check.on_demand, check.conditions) == (7 * 86400, False, {"window": "01:00-05:00"})
    assert (forget.every_s, forget.on_demand, forget.conditions) == (12 * 3600, False, {"window": "01:00-05:00"})


def test_an_interval_among_the_conditions_is_the_least(tmp_path: Path) -> None:
    config = parse_config(CARED_FOR.replace('window = "01:00-05:00"', 'every = "2d"'), tmp_path / "cdr.toml")
    assert job(config, "hq", JobKind.CHECK).every_s == 7 * 86400
    assert job(config, "hq", JobKind.FORGET) == Job("hq", JobKind.FORGET, 2 * 86400)


def test_what_was_forgotten_is_told_and_what_was_checked_is_fetched(tmp_path: Path) -> None:
    config = parse_config(CARED_FOR, tmp_path / "cdr.toml")
    assert followers(config, job(config, "hq", JobKind.FORGET)) == {("hq", JobKind.RECEIVE)}
    assert followers(config, job(config, "hq", JobKind.CHECK)) == {("branch", JobKind.SEND)}
