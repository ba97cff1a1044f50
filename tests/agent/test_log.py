"""What the agent says: one line each, times where nobody else adds them, nothing twice."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from typing import TextIO

import pytest

from cdr_plugin.agent.log import JobVoice, Log


def test_lines_have_a_time_a_tier_and_a_job() -> None:
    stream = io.StringIO()
    Log(stream=stream, environment={}).info("version 3\x1b[31m", tier="alice", job="backup", event="done")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(time + r" alice backup: version 3\\x1b\[31m\n", stream.getvalue())


def test_the_journal_gets_priorities_instead_of_times(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as stream:
        log = Log(stream=stream, environment=journal(stream))
        log.error("failed")
        log.info("done")
        log.detail("not shown")
        stream.seek(0)
        assert stream.read() == "<3>failed\n<6>done\n"


def test_a_stream_that_is_not_the_journal_gets_times_under_systemd_too(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w+") as other, (tmp_path / "log").open("w+") as stream:
        Log(stream=stream, environment=journal(other)).info("done")
        stream.seek(0)
        assert stream.read()[:1].isdigit()


def test_quiet_leaves_errors_and_warnings() -> None:
    stream = io.StringIO()
    log = Log(quiet=True, stream=stream)
    log.info("done")
    log.warning("odd")
    log.error("failed")
    assert [line.split()[-1] for line in stream.getvalue().splitlines()] == ["odd", "failed"]


def journal(stream: TextIO) -> dict[str, str]:
    """What systemd says of a stream."""
    found = os.fstat(stream.fileno())
    return {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}


def test_json_lines_have_all_fields() -> None:
    stream = io.StringIO()
    Log(as_json=True, verbose=True, stream=stream).detail("begins", tier="alice", event="began")
    line = json.loads(stream.getvalue())
    assert {key: line[key] for key in ("message_type", "level", "tier", "event", "message")} == {
        "message_type": "log",
        "level": "detail",
        "tier": "alice",
        "event": "began",
        "message": "begins",
    }


def test_a_reader_that_went_away_stops_nothing() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    Log(stream=Gone()).info("anybody there?")


def test_what_a_job_says_run_after_run_is_said_once_and_again_after_a_run_without_it() -> None:
    stream = io.StringIO()
    voice = JobVoice(Log(stream=stream), "hq", "receive")
    for lines in (["stranger", "stranger"], ["stranger"], [], ["stranger"]):
        voice.begin()
        for line in lines:
            voice.say(line, False)
    assert [line.partition(" ")[2] for line in stream.getvalue().splitlines()] == ["hq receive: stranger"] * 2


@pytest.mark.parametrize("count", [100, 101, 5000])
def test_a_flood_of_lines_is_cut(count: int) -> None:
    stream = io.StringIO()
    voice = JobVoice(Log(stream=stream, environment={}), "alice", "backup")
    voice.begin()
    for number in range(count):
        voice.say(f"file {number}: unreadable", True)
    assert len(stream.getvalue().splitlines()) == min(count, 101)
