"""Several processes of one machine share the work of one inbox: none does what another does, and none waits for it.

The first process is a child that stops in the midst of its work until it is told to go on; meanwhile the
second one runs from its beginning to its end.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cdr_plugin.cli.main import main
from cdr_plugin.intermediate import take as taking
from cdr_plugin.top.tier import TopTier
from tests.cli.test_status_and_policies import Host, host
from tests.restic.world import Place, blob_copies
from tests.support.crashing import beside

__all__ = ["host"]

FILE = """\
[tier.ann]
group = "a"
state = "ann"
identity = "ann-identity"
source.paths = ["files"]
forward.to = "{below}"
[tier.ben]
group = "b"
state = "ben"
identity = "ben-identity"
source.paths = ["files"]
forward.to = "{below}"
{branch}
[tier.hq]
state = "hq"
identity = "hq-identity"
receive.inbox = "inbox"
[tier.hq.group.a]
[tier.hq.group.b]
[tier.hq.store]
repository = "repository-{{group}}"
password_file = "password"
"""
BRANCH = """
[tier.branch]
state = "branch"
identity = "branch-identity"
receive.inbox = "lower"
forward.to = "inbox"
"""


@pytest.fixture
def shared(host: Host) -> Host:
    """Two clients of two groups, whose versions are in the top tier's inbox."""
    return prepare(host, FILE.format(below="inbox", branch=""))


def prepare(host: Host, text: str) -> Host:
    (host.folder / "cdr.toml").write_text(text)
    (host.folder / "password").write_text("secret")
    (host.folder / "files").mkdir()
    (host.folder / "files/a").write_bytes(b"content" * 999)
    for command in ("init", "backup", "send"):
        host.cdr(command)
    return host


@contextmanager
def halfway(host: Host, owner: object, name: str, *arguments: str, when: Callable[[Any], bool]) -> Iterator[None]:
    """``cdr`` with these arguments in a child, which has come to ``owner.name`` and goes on behind the block."""
    begun, go = os.pipe(), os.pipe()
    real = getattr(owner, name)

    def stop_first(first: Any, *others: Any, **named: Any) -> Any:
        if when(first):
            os.write(begun[1], b".")
            os.read(go[0], 1)
        return real(first, *others, **named)

    def run() -> None:
        setattr(owner, name, stop_first)
        assert main([*arguments, "-c", str(host.folder / "cdr.toml")]) == 0

    with beside(run):
        os.close(begun[1])
        assert os.read(begun[0], 1), "the child never came there"
        try:
            yield
        finally:
            os.write(go[1], b".")
    for end in (begun[0], *go):
        os.close(end)


def versions(host: Host) -> list[tuple[str, int, str]]:
    (hq,) = (tier for tier in host.json("status", "-T", "hq")["tiers"])
    return [(one["name"], version["number"], version["state"]) for one in hq["clients"] for version in one["versions"]]


def assert_nothing_twice(host: Host, group: str) -> None:
    place = Place(host.folder / f"repository-{group}", host.folder / "hq" / group / "repository", "secret")
    assert [blob for blob, count in Counter(blob_copies(place)).items() if count > 1] == []
    host.cdr("check", "-q", "-r", str(place.folder), "-p", f"{host.folder}/password")


def test_two_receivers_of_one_top_tier_work_on_two_groups_at_once(shared: Host) -> None:
    with halfway(shared, TopTier, "open_repository", "receive", when=lambda top: top.group == "a"):
        out, err = shared.cdr("receive", code=75)
        assert "stored 1 versions" in out
        lines = [line for line in err.splitlines() if "another process" in line]
        lock = shared.folder / "hq/a/receive.lock"
        reason = f"another process is at it already: receiving of hq ({lock}); try again later"
        assert lines == [f"hq, group a: {reason}"]
        assert versions(shared) == [("ben", 1, "committed")]
    assert versions(shared) == [("ann", 1, "committed"), ("ben", 1, "committed")]
    for group in ("a", "b"):
        assert_nothing_twice(shared, group)
    assert shared.json("receive")["versions_stored"] == 0


def test_a_second_receiver_of_the_same_group_leaves_it_to_the_first(host: Host) -> None:
    one_group = FILE.format(below="inbox", branch="").replace("[tier.hq.group.b]\n", "").replace('"b"', '"a"')
    shared = prepare(host, one_group)
    with halfway(shared, TopTier, "open_repository", "receive", when=lambda _top: True):
        before = contents(shared.folder)
        _, err = shared.cdr("receive", code=75)
        lock = shared.folder / "hq/a/receive.lock"
        assert err == f"cdr: another process is at it already: receiving of hq ({lock}); try again later\n"
        assert contents(shared.folder) == before
    assert versions(shared) == [("ann", 1, "committed"), ("ben", 1, "committed")]
    assert_nothing_twice(shared, "a")


def contents(folder: Path) -> dict[str, int]:
    """Every file of inbox and repositories, and its size."""
    rooms = [folder / "inbox", folder / "lower", folder / "branch", *folder.glob("repository-*")]
    files = [path for room in rooms for path in room.rglob("*") if path.is_file() and "state.db" not in path.name]
    return {str(path): path.stat().st_size for path in files}


@pytest.mark.parametrize("second", ["receive", "send"])
def test_a_second_mover_leaves_an_intermediate_tier_to_the_first(host: Host, second: str) -> None:
    shared = prepare(host, FILE.format(below="lower", branch=BRANCH))
    with halfway(shared, taking, "take", "receive", "-T", "branch", when=lambda _inbox: True):
        before = contents(shared.folder)
        _, err = shared.cdr(second, "-T", "branch", code=75)
        lock = shared.folder / "branch/move.lock"
        assert err == f"cdr: another process is at it already: moving segments of branch ({lock}); try again later\n"
        assert contents(shared.folder) == before
    assert shared.json("send", "-T", "branch")["segments_sent"] == 2
    assert shared.json("receive", "-T", "hq")["versions_stored"] == 2
    for group in ("a", "b"):
        assert_nothing_twice(shared, group)
