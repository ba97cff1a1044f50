"""``cdr queue``, and several storages, as a user meets them."""

from __future__ import annotations

from pathlib import Path

import pytest

from .command import Repository, Shell
from .hosts import files_in

_TWO = """
[tier.laptop]
group = "g"
state = "laptop/state"
identity = "laptop/identity"
source.paths = ["files"]
forward = {{ to = ["near", "far"], mode = "{mode}" }}
"""
_TOP = """
[tier.{name}]
state = "{name}/state"
identity = "{name}/identity"
receive.inbox = {inbox}
store = {{ repository = "{name}/repository", password_file = "password" }}
[tier.{name}.group.g]
"""


@pytest.fixture
def home(shell: Shell) -> Shell:
    files_in(shell.folder / "files", letter="l")
    (shell.folder / "password").write_text("secret\n")
    return shell


def configure(home: Shell, *parts: str) -> None:
    (home.folder / "cdr.toml").write_text("".join(parts))


def one_chain(home: Shell) -> None:
    laptop = _TWO.format(mode="first-reachable").replace('["near", "far"]', '"near"')
    configure(home, laptop, _TOP.format(name="hq", inbox='"near"'))
    home.cdr("init")


def repository(home: Shell, name: str) -> Repository:
    return Repository(home, home.folder / name / "repository", home.folder / "password")


def test_the_queue_lists_what_waits_and_what_is_not_answered(home: Shell) -> None:
    one_chain(home)
    assert "nothing waits" in home.cdr("queue").out
    home.cdr("backup")
    (client,) = home.json("queue", "list")["clients"]
    (parcel,) = client["parcels"]
    assert (parcel["version"], parcel["state"], parcel["bytes"]) == (1, "captured", parcel["bytes_held"])
    assert [segment["state"] for segment in parcel["segments"]] == ["spooled"]
    assert "1 spooled" in home.cdr("queue").out
    home.cdr("send")
    assert "1 sent" in home.cdr("queue").out
    assert home.json("queue", "retry")["clients"] == [{"client": "laptop", "segments": 1}]
    assert home.json("send")["segments_sent"] == 1
    home.cdr("receive")
    home.cdr("send")
    assert home.json("queue")["clients"][0]["parcels"] == []


def test_a_version_that_waits_can_be_dropped_and_its_number_is_used_again(home: Shell) -> None:
    one_chain(home)
    home.cdr("backup")
    assert home.json("queue", "drop", "1")["clients"][0]["dropped"] == [1]
    assert list((home.folder / "laptop/state/spool").iterdir()) == []
    assert home.json("backup")["version"] == 1
    home.cdr("send")
    assert "begun to travel" in home.cdr("queue", "drop", "1", code=1).error
    assert "no version 7" in home.cdr("queue", "drop", "7", code=1).error
    home.cdr("receive")
    repository(home, "hq").check()
    assert len(repository(home, "hq").snapshots()) == 1


def test_a_version_that_is_given_up_does_not_stop_the_next(home: Shell) -> None:
    one_chain(home)
    home.cdr("backup")
    home.cdr("send")
    for path in (home.folder / "near").glob("clients/*/*/*"):
        path.unlink()
    home.cdr("queue", "drop", "1", "--force")
    assert home.json("backup")["version"] == 2
    for _ in range(2):
        home.cdr("send")
        home.cdr("receive")
    repository(home, "hq").check()
    assert repository(home, "hq").snapshots()


def test_two_hierarchies_get_every_version_and_neither_waits_for_the_other(home: Shell) -> None:
    tops = [_TOP.format(name="one", inbox='"near"'), _TOP.format(name="two", inbox='"far"')]
    configure(home, _TWO.format(mode="all"), *tops)
    home.cdr("init")
    home.cdr("backup")
    (home.folder / "near").rename(home.folder / "unplugged")
    home.cdr("send", code=1)
    home.cdr("receive", "-T", "two")
    assert len(repository(home, "two").snapshots()) == 1
    (home.folder / "unplugged").rename(home.folder / "near")
    home.cdr("send")
    home.cdr("receive")
    trees = {repository(home, name).snapshots()[0]["tree"] for name in ("one", "two")}
    assert len(trees) == 1
    names = [tier["name"] for tier in home.json("status")["tiers"]]
    assert names == [f"laptop to {home.folder}/near", f"laptop to {home.folder}/far", "one", "two"]
    for name in ("one", "two"):
        repository(home, name).check()


def test_a_ticket_finds_the_storage_that_it_is_for(home: Shell, tmp_path: Path) -> None:
    for name, inbox in (("one", "near"), ("two", "far")):
        configure(home, _TOP.format(name=name, inbox=f'"{inbox}"'))
        home.cdr("init")
        (tmp_path / f"{name}.ticket").write_text(home.cdr("ticket").out)
    configure(home, _TWO.format(mode="all"))
    home.cdr("init")
    home.cdr("enroll", tmp_path / "two.ticket")
    home.cdr("enroll", tmp_path / "one.ticket", "--to", "near")
    home.cdr("backup")
    assert home.json("send")["segments_sent"] == 2


def test_with_the_first_storage_away_segments_go_to_the_second(home: Shell) -> None:
    configure(home, _TWO.format(mode="first-reachable"), _TOP.format(name="hq", inbox='["near", "far"]'))
    home.cdr("init")
    home.cdr("backup")
    (home.folder / "near").rename(home.folder / "unplugged")
    done = home.cdr("send", "--json")
    assert done.summary["segments_sent"] == 1
    assert done.err.count("another storage is used") == 1
    (home.folder / "unplugged").rename(home.folder / "near")
    home.cdr("receive")
    assert home.json("send")["segments_waiting"] == 0
    assert home.json("queue")["clients"][0]["parcels"] == []
    repository(home, "hq").check()


def test_a_full_spool_without_connection_is_said_in_one_line(home: Shell) -> None:
    one_chain(home)
    text = (home.folder / "cdr.toml").read_text()
    (home.folder / "cdr.toml").write_text(text.replace("source.paths", 'spool.max_size = "1MiB"\nsource.paths'))
    (home.folder / "near").rename(home.folder / "unplugged")
    with (home.folder / "files" / "large").open("wb") as large, Path("/dev/urandom").open("rb") as noise:
        for _ in range(40):
            large.write(noise.read(1 << 20))
    assert "no room in the spool" in home.cdr("backup", code=75).error
    (home.folder / "unplugged").rename(home.folder / "near")
    home.cdr("backup")
    spooled = sum(path.stat().st_size for path in (home.folder / "laptop/state/spool").iterdir())
    assert spooled < 4 * 12 * 1024 * 1024
    home.cdr("send")
    home.cdr("receive")
    assert len(repository(home, "hq").snapshots()) == 1
    repository(home, "hq").check()
