"""A tier that is of several groups, or of several hierarchies, inherits a policy of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cdr_plugin.assembly import reducing_tiers
from cdr_plugin.cli.main import main
from cdr_plugin.config.adopted import Adopted, parts_of, policy_files, write_adopted
from cdr_plugin.config.load import load_config
from cdr_plugin.plugins import installed
from cdr_plugin.reducing.tier import ReducingTier
from cdr_plugin.reporter import Reporter
from tests.reducing.worlds import client, fill, reducing, top
from tests.support.tiers import Tiers, make_tiers_quick

MIB = 1 << 20
DAY_S = 86400
INHERITS = 'policy = "inherit"\n'


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_tiers_quick(monkeypatch)


@pytest.fixture
def cdr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str) -> str:
        code = main([*words, "-c", str(tmp_path / "cdr.toml")])
        said = capsys.readouterr()
        assert code == 0, said.out + said.err
        return said.out

    return run


def inheriting(text: str) -> str:
    return text.replace("]\n", f"]\n{INHERITS}", 1)


def policy(size: str, days: int, *, receive: str, exclude: str = "*.iso") -> str:
    return f"""
[source]
exclude = ["{exclude}"]
when = {{ every = "{days}h" }}
[spool]
max_size = "{size}"
[forward]
limit = "{size}/s"
[receive]
limit = "{receive}/s"
retain = {{ for = "{days}d" }}
"""


def branches(tiers: Tiers) -> list[ReducingTier]:
    return list(reducing_tiers(tiers.config, tiers.tier("branch"), installed(), Reporter()))


def publish(cdr: Callable[..., str], base: Path, text: str, *words: str) -> None:
    (base / "policy.toml").write_text(text)
    cdr("policy", "publish", str(base / "policy.toml"), *words)


def test_a_tier_that_reduces_for_several_groups_keeps_to_each_policy_in_its_own_part(
    tmp_path: Path, cdr: Callable[..., str]
) -> None:
    fill(tmp_path, ["a", "b"], shared=1, own=1)
    clients = client("a", "branch", "legal") + client("b", "branch", "sales")
    tiers = Tiers.make(tmp_path, clients + inheriting(reducing("branch", "hq")) + top())
    tiers.deliver(2)
    before = tiers.tier("branch")
    publish(cdr, tmp_path, policy("1GiB", 7, receive="4MiB"), "-G", "legal")
    publish(cdr, tmp_path, policy("2GiB", 3, receive="2MiB"), "-G", "sales")
    cdr("send", "-T", "branch")
    whole = tiers.tier("branch")
    assert whole.receive and whole.forward and before.receive
    assert (whole.receive.limit, whole.forward.limit) == (2 * MIB, 1 << 30)
    assert (whole.receive.retain, whole.spool) == (before.receive.retain, before.spool)
    found = {}
    for tier in branches(tiers):
        with closing(tier):
            found[tier.group] = (tier.retain_s, tier.uplinks[0].spool_limit)
    assert found == {"legal": (7 * DAY_S, 1 << 30), "sales": (3 * DAY_S, 2 << 30)}
    shown = json.loads(cdr("policy", "show", "-T", "branch", "--json"))
    settings = {one["group"]: {row["key"]: row for row in one["settings"]} for one in shown}
    assert settings["sales"]["spool.max_size"]["value"] == "2GiB"
    assert settings["sales"]["forward.limit"]["value"] == "1GiB/s"
    assert settings["sales"]["forward.limit"]["note"] == "another policy is stricter"
    assert settings["legal"]["forward.limit"]["note"] == ""
    cdr("policy", "publish", "--withdraw", "-G", "legal")
    cdr("send", "-T", "branch")
    forward = tiers.tier("branch").forward
    assert forward
    assert forward.limit == 2 << 30


def test_of_two_hierarchies_above_a_tier_that_reduces_the_stricter_policy_holds(
    tmp_path: Path, cdr: Callable[..., str]
) -> None:
    fill(tmp_path, ["a"], shared=1, own=1)
    text = client("a", "branch") + inheriting(reducing("branch", "hq", "dr")) + top("hq") + top("dr")
    tiers = Tiers.make(tmp_path, text)
    tiers.deliver(2)
    publish(cdr, tmp_path, policy("1GiB", 7, receive="4MiB"), "-T", "hq")
    publish(cdr, tmp_path, policy("2GiB", 3, receive="2MiB"), "-T", "dr")
    cdr("send", "-T", "branch")
    (branch,) = branches(tiers)
    with closing(branch):
        assert branch.retain_s == 3 * DAY_S
        assert [uplink.spool_limit for uplink in branch.uplinks] == [1 << 30, 1 << 30]
    whole = tiers.tier("branch")
    assert whole.receive and whole.forward
    assert (whole.receive.limit, whole.forward.limit) == (2 * MIB, 1 << 30)
    assert {one["issuer"] for one in json.loads(cdr("policy", "show", "-T", "branch", "--json"))} == {"hq", "dr"}


def test_each_storage_of_a_client_that_replicates_gets_what_its_own_top_tier_says(
    tmp_path: Path, cdr: Callable[..., str]
) -> None:
    fill(tmp_path, ["a"], shared=1, own=1)
    to = 'to = ["file:hq/inbox", "file:dr/inbox"], mode = "all"'
    text = inheriting(client("a", "hq").replace('to = "file:hq/inbox"', to)) + top("hq") + top("dr")
    tiers = Tiers.make(tmp_path, text)
    for name in ("hq", "dr"):
        (tmp_path / "a" / f"for-{name}").write_text(f"left out by the other one than {name}")
    cdr("backup")
    cdr("send")
    cdr("receive")
    publish(cdr, tmp_path, policy("1GiB", 7, receive="1MiB", exclude="for-dr"), "-T", "hq")
    publish(cdr, tmp_path, policy("2GiB", 3, receive="1MiB", exclude="for-hq"), "-T", "dr")
    cdr("send")
    for _ in range(2):
        cdr("backup")
        cdr("send")
        cdr("receive")
    for name, other in (("hq", "dr"), ("dr", "hq")):
        newest = tiers.restic(name, "g", "ls", "latest")
        assert f"/for-{name}" in newest
        assert f"/for-{other}" not in newest
    one = tiers.tier("a")
    assert one.source and one.forward
    assert (one.source.when, one.source.exclude, one.forward.limit) == ({"every": "7h"}, (), None)
    shown = json.loads(cdr("policy", "show", "-T", "a", "--json"))
    assert [(row["issuer"], len(row["settings"])) for row in shown] == [("hq", 4), ("dr", 4)]


def test_a_policy_that_was_adopted_before_there_were_several_stays_in_force_until_the_next(
    tmp_path: Path, cdr: Callable[..., str]
) -> None:
    fill(tmp_path, ["a"], shared=1, own=1)
    tiers = Tiers.make(tmp_path, client("a", "branch") + inheriting(reducing("branch", "hq")) + top())
    tiers.deliver(2)
    state = tiers.tier("branch").state
    write_adopted(state, Adopted(1, "g", "hq", "ab", 1, '[receive]\nlimit = "1MiB/s"'))
    receive = tiers.tier("branch").receive
    assert receive and receive.limit == MIB
    publish(cdr, tmp_path, '[receive]\nlimit = "3MiB/s"')
    cdr("send", "-T", "branch")
    receive = tiers.tier("branch").receive
    assert receive and receive.limit == 3 * MIB
    (part,) = parts_of(load_config(tmp_path / "cdr.toml", inherit=False).tier("branch"))
    assert [one.issuer for one in part.adopted] == ["hq"]
    assert policy_files(tiers.tier("branch")) == [state / "policy.json", state / "g/up/policy.json"]
