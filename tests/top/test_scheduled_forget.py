"""The scheduled forget: stock restic's policy by client, two times, baselines, and a prune that is made up for."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdr_plugin.care import CheckOptions
from cdr_plugin.model.trees import encode_tree
from cdr_plugin.parcel.naming import Answer, answer_name
from cdr_plugin.parcel.standing import read_standing
from cdr_plugin.reporter import Reporter
from cdr_plugin.retention.policy import Policy
from cdr_plugin.retention.tags import reserved_tags
from cdr_plugin.top import commit
from cdr_plugin.top.care_state import CareState
from cdr_plugin.top.forgetting import Forgotten, forget_group, plan_forget
from cdr_plugin.top.pins import is_pin
from tests.support.chain import Chain, Recorder
from tests.support.crashing import kill_at
from tests.support.forger import Forger, check_repository, file_node, plain, restic

DAY_S = 86400
START_S = 1_600_000_000 // DAY_S * DAY_S + DAY_S // 2  # a noon
LONG_AFTER_S = 10_000 * DAY_S


@pytest.fixture
def client(chain: Chain) -> Forger:
    return Forger(chain)


@dataclass
class Clock:
    """What the top tier takes for now when it stores a version."""

    now_s: float

    def time(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock(START_S)
    monkeypatch.setattr(commit, "time", made)
    return made


def rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def daily(client: Forger, days: int) -> None:
    """A version a day, all sent at once."""
    for _ in range(days):
        number = client.number + 1
        send(client, rfc3339(START_S + number * DAY_S), f"content {number}".encode())
    client.chain.receive()


def send(client: Forger, at: str, data: bytes) -> None:
    client.send_version([plain(data)], encode_tree([file_node("f", data)]), time=at)


def numbers(chain: Chain, client: Forger) -> list[int]:
    """Of the client's versions in the repository."""
    repository = chain.top.open_repository()
    tags = [tag for v in repository.versions() for tag in reserved_tags(v.snapshot)]
    repository.close()
    id_ = commit.VersionTag.of(client.key.public.fingerprint, 1, bytes(32)).client
    found = filter(None, map(commit.VersionTag.parse, tags))
    return sorted(tag.number for tag in found if tag.client == id_)


def forget(chain: Chain, policy: Policy, *, prune: bool = False, reporter: Reporter | None = None) -> Forgotten:
    return forget_group(
        chain.top, policy, prune=prune, pin_for_s=180 * DAY_S, reporter=reporter or Reporter()
    )


def planned(chain: Chain, policy: Policy, *, now_s: float | None = None) -> set[str]:
    repository = chain.top.open_repository()
    try:
        plan = plan_forget(
            chain.top, repository.versions(), policy, pin_for_s=180 * DAY_S,
            now_s=time.time() if now_s is None else now_s,
        )  # fmt: skip
        return set(plan.remove)
    finally:
        repository.close()


# --- policy ---


@pytest.mark.parametrize(
    ("policy", "options"),
    [
        (Policy(last=3), ["--keep-last=3"]),
        (Policy(daily=5, last=1), ["--keep-daily=5", "--keep-last=1"]),
        (Policy(weekly=2, daily=2), ["--keep-weekly=2", "--keep-daily=2"]),
    ],
)
def test_restic_would_remove_the_same_of_a_client_that_is_silent(
    chain: Chain, client: Forger, policy: Policy, options: list[str]
) -> None:
    other = Forger(chain, "other")
    daily(client, 20)
    daily(other, 9)
    groups = json.loads(restic(chain, "forget", "--dry-run", "--json", "--group-by=host", *options))
    of_restic = {one["id"] for group in groups for one in group["remove"] or ()}
    assert of_restic
    assert planned(chain, policy, now_s=time.time() + LONG_AFTER_S) == of_restic


def test_a_flood_of_backdated_versions_pushes_no_real_one_out(chain: Chain, client: Forger, clock: Clock) -> None:
    """Beside the real history it follows an older version, as a machine with an old state would."""
    sent = []
    for number in range(1, 9):
        clock.now_s = START_S + number * DAY_S
        send(client, rfc3339(clock.now_s), f"real {number}".encode())
        sent.append(client.previous)
        chain.receive()
    client.number, client.previous = 1, sent[0]
    clock.now_s = START_S + 9 * DAY_S
    for step in range(40):
        send(client, rfc3339(START_S + DAY_S + 3600 * (step + 1) * 4), f"flood {step}".encode())
    chain.receive()
    forget(chain, Policy(daily=9))
    left = restic(chain, "snapshots", "--json")
    kept = {one["time"] for one in json.loads(left)}
    assert {rfc3339(START_S + number * DAY_S) for number in range(1, 9)} <= kept
    check_repository(chain)


def test_the_times_of_receipt_survive_the_loss_of_the_state(chain: Chain, client: Forger, clock: Clock) -> None:
    for number in range(1, 6):
        clock.now_s = START_S + (10 - number) * DAY_S  # in the reverse order of their own times
        send(client, rfc3339(START_S + number * DAY_S), f"{number}".encode())
        chain.receive()
    policy = Policy(daily=2)
    before = planned(chain, policy, now_s=time.time() + LONG_AFTER_S)
    chain.top.close()
    shutil.rmtree(chain.top.state_folder)
    chain.receive()
    assert planned(chain, policy, now_s=time.time() + LONG_AFTER_S) == before != set()
    assert len(before) == 1  # two are kept by each time, and two of these four are the same one: the fifth


def test_a_policy_that_keeps_nothing_of_a_client_removes_nothing_of_it(chain: Chain, client: Forger) -> None:
    daily(client, 4)
    seen = Recorder()
    assert forget(chain, Policy(tags=(("kept",),)), reporter=seen).note.removed == 0
    assert numbers(chain, client) == [1, 2, 3, 4]
    assert seen.notes == ["client mallory: the policy would keep none of its 4 versions; all are kept"]


def test_versions_of_other_programs_and_pins_stay(chain: Chain, client: Forger, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"of somebody else")
    for _ in range(3):
        restic(chain, "backup", str(tmp_path / "file"))
    daily(client, 5)
    client.put_segments([client.records(plain(b"on its way"))])
    chain.receive()
    forget(chain, Policy(last=1))
    repository = chain.top.open_repository()
    found = [version.snapshot for version in repository.versions()]
    repository.close()
    assert sum(is_pin(one) for one in found) == 1
    assert sum(not one.tags for one in found) == 3


# --- baselines ---


def test_the_version_before_the_newest_stays_until_another_has_come(chain: Chain, client: Forger) -> None:
    daily(client, 4)
    forget(chain, Policy(last=1))
    assert numbers(chain, client) == [3, 4]
    daily(client, 1)
    forget(chain, Policy(last=1))
    assert numbers(chain, client) == [4, 5]


def test_of_a_client_that_is_silent_for_long_only_the_newest_stays(chain: Chain, client: Forger, clock: Clock) -> None:
    daily(client, 4)  # received long ago, by that clock
    forget(chain, Policy(last=1))
    assert numbers(chain, client) == [4]


def test_both_ends_of_a_fork_stay_with_what_comes_before(chain: Chain, client: Forger) -> None:
    daily(client, 3)
    at = client.number, client.previous
    daily(client, 3)
    client.number, client.previous = at
    send(client, rfc3339(START_S + 3 * DAY_S + 60), b"of the other machine")
    chain.receive()
    forget(chain, Policy(last=1))
    assert numbers(chain, client) == [3, 4, 5, 6]


def test_after_the_loss_of_the_state_the_same_stay(chain: Chain, client: Forger) -> None:
    daily(client, 4)
    chain.top.close()
    shutil.rmtree(chain.top.state_folder)
    client.put_head()
    chain.receive()
    forget(chain, Policy(last=1))
    assert numbers(chain, client) == [3, 4]


# --- what follows ---


def test_clients_hear_of_it_though_none_has_sent_anything(chain: Chain, client: Forger) -> None:
    daily(client, 5)
    forget(chain, Policy(last=1))
    chain.receive()
    standing = read_standing(
        (chain.inbox / answer_name(client.folder, Answer.STANDING)).read_bytes(),
        keys=client.tier.identity.sealing_keys(client.group),
        tier=client.tier.ticket.issuer,
        client=client.key.public,
        group=client.group,
        now_s=time.time(),
    )
    assert [version.number for version in standing.versions] == [4, 5]


def test_pruning_follows_only_when_something_was_removed(chain: Chain, client: Forger) -> None:
    daily(client, 6)
    before = size(chain)
    done = forget(chain, Policy(last=2), prune=True)
    assert done.pruned is not None and done.note.removed == 4 and size(chain) < before
    check_repository(chain)
    assert forget(chain, Policy(last=2), prune=True).pruned is None


def test_the_next_version_builds_on_what_was_kept_and_nothing_is_asked_for_again(chain: Chain, client: Forger) -> None:
    daily(client, 6)
    forget(chain, Policy(last=1), prune=True)
    tree_and_file = b"content 6"  # not sent again
    tree = encode_tree([file_node("again", tree_and_file), file_node("new", b"new")])
    client.send_version([plain(b"new")], tree, time=rfc3339(START_S + 50 * DAY_S))
    assert chain.receive().versions_stored == 1
    assert not client.receipt().missing


def size(chain: Chain) -> int:
    return sum(path.stat().st_size for path in (chain.repository / "data").rglob("*") if path.is_file())


def killed_everywhere(base: Path, make: Callable[[Path], Chain]) -> Iterator[tuple[int, bool, Chain]]:
    at = 0
    while True:
        at += 1
        chain = make(base / f"killed{at}")
        counted = kill_at(at, lambda chain=chain: forget(chain, Policy(last=1), prune=True))  # type: ignore[misc]
        yield at, counted.killed, chain
        if not counted.killed:
            return


def test_killed_at_any_durable_operation_the_next_run_ends_the_same(
    chain: Chain, client: Forger, tmp_path: Path
) -> None:
    daily(client, 5)
    with CareState(chain.top.state_folder):
        pass
    chain.top.close()

    def copy(base: Path) -> Chain:
        shutil.copytree(chain.base, base, ignore=shutil.ignore_patterns("killed*"))
        return Chain(base)

    reached = 0
    for at, _, other in killed_everywhere(tmp_path, copy):
        again = forget(other, Policy(last=1), prune=True)
        with CareState(other.top.state_folder) as care:
            assert not care.owes_prune
        assert numbers(other, client) == [4, 5], at
        repository = other.top.open_repository()
        report = repository.care().check(CheckOptions(read_data=True))
        repository.close()
        assert (report.errors, report.hints) == ([], []), at  # hints would name what is unused
        if at % 8 == 0:
            check_repository(other)
        other.top.close()
        shutil.rmtree(other.base)
        reached += again.pruned is not None
    assert reached > 5
