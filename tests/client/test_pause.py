"""A pause lasts until it is ended, and holds what respects it."""

from __future__ import annotations

from itertools import count
from pathlib import Path

from cdr_plugin.convenience import PAUSED, RECHECK_S, Convenience
from cdr_plugin.pause import NAME, pause, paused_since_s, resume
from cdr_plugin.plugins import Plugins


def test_a_pause_begins_once_and_ends_once(tmp_path: Path) -> None:
    assert paused_since_s(tmp_path) is None
    assert pause(tmp_path) and not pause(tmp_path)
    assert paused_since_s(tmp_path) is not None
    assert resume(tmp_path) and not resume(tmp_path)
    assert paused_since_s(tmp_path) is None


def test_a_damaged_flag_is_still_a_pause(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xffx")
    assert paused_since_s(tmp_path) == (tmp_path / NAME).stat().st_mtime


def test_nothing_is_convenient_while_paused_and_the_work_under_way_stops_too(tmp_path: Path) -> None:
    policy = Convenience(Plugins(list), {}, state=tmp_path)
    seconds = count(0.0, RECHECK_S)
    may_go_on = policy.while_working(lambda: next(seconds))
    assert policy.ask().convenient and may_go_on().convenient
    pause(tmp_path)
    assert policy.ask() == may_go_on() == PAUSED
    resume(tmp_path)
    assert policy.ask().convenient and may_go_on().convenient
