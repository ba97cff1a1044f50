"""A pause lasts until it is ended, and holds what respects it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdr_plugin.agent.pause import NAME, pause, paused_since_s, refuse_paused, resume
from cdr_plugin.errors import NotConvenientError


def test_a_pause_begins_once_and_ends_once(tmp_path: Path) -> None:
    refuse_paused("alice", tmp_path)
    assert pause(tmp_path) and not pause(tmp_path)
    assert paused_since_s(tmp_path) is not None
    with pytest.raises(NotConvenientError, match="tier alice is paused; 'cdr resume -T alice' lets it go on"):
        refuse_paused("alice", tmp_path)
    assert resume(tmp_path) and not resume(tmp_path)
    refuse_paused("alice", tmp_path)


def test_a_damaged_flag_is_still_a_pause(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\xffx")
    assert paused_since_s(tmp_path) == (tmp_path / NAME).stat().st_mtime
