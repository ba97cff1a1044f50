"""Waiting for a version ends when it has arrived, when it never will, and when the time is over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cdr_plugin.client.states import VersionState
from cdr_plugin.client.waiting import wait_for
from cdr_plugin.errors import RemoteError, UserError
from tests.support.chain import Chain, Recorder


class World:
    """A clock that moves when somebody sleeps, a chain, and what happens at which look."""

    def __init__(self, folder: Path) -> None:
        self.chain = Chain(folder).init()
        self.client = self.chain.new_client()
        (folder / "source").mkdir()
        (folder / "source" / "file").write_text("f")
        assert self.chain.backup(self.client, folder / "source").version == 1
        self.now_s = 0.0
        self.heard = Recorder()

    def wait(self, goal: str, *events: Callable[[], object], timeout_s: float | None = 60) -> str | None:
        happening = iter(events)

        def send() -> str:
            said = next(happening, nothing)()
            self.chain.send(self.client)
            return said if isinstance(said, str) else ""

        def sleep(seconds: float) -> None:
            assert seconds > 0
            self.now_s += seconds

        return wait_for(
            self.client.state,
            1,
            goal,
            send=send,
            every_s=7,
            timeout_s=timeout_s,
            reporter=self.heard,
            clock=lambda: self.now_s,
            sleep=sleep,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def nothing() -> None:
    """Nobody receives."""


def test_it_ends_when_the_version_is_committed(world: World) -> None:
    assert world.wait("committed", nothing, nothing, world.chain.receive, timeout_s=None) == "committed"
    assert world.now_s == 14


def test_what_is_committed_is_stored_too(world: World) -> None:
    assert world.wait("stored", nothing, world.chain.receive) == "committed"


def test_it_ends_when_the_time_is_over_not_later(world: World) -> None:
    assert world.wait("stored", timeout_s=10) is None
    assert world.now_s == 10


def test_without_any_time_it_looks_once(world: World) -> None:
    assert world.wait("stored", timeout_s=0) is None
    assert world.client.state.queue() == (0, 0)


def test_a_storage_out_of_reach_is_waited_for_and_told_once(world: World) -> None:
    def fail() -> None:
        raise RemoteError("no route to inbox")

    assert world.wait("committed", fail, fail, nothing, world.chain.receive) == "committed"
    assert world.heard.notes == ["no route to inbox; waiting"]


def test_what_the_sending_waits_for_is_told_when_it_changes(world: World) -> None:
    reasons = ["waiting for 20:00", "waiting for 20:00", "", "waiting for mains"]
    world.wait("stored", *(lambda reason=reason: reason for reason in reasons), timeout_s=30)  # type: ignore[misc]
    assert world.heard.notes == ["waiting for 20:00", "waiting for mains"]


def test_a_rejected_version_ends_it(world: World) -> None:
    def reject() -> None:
        world.client.state.set_version(1, VersionState.REJECTED, "", "of another group")

    with pytest.raises(UserError, match="rejected above: of another group"):
        world.wait("stored", nothing, reject)
