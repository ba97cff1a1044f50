"""What the agent says: one line each, times where nobody else adds them, nothing twice."""

from __future__ import annotations

import io
import json
import re

import pytest

from cdr_plugin.agent.log import JobVoice, Log


def test_lines_have_a_time_a_tier_and_a_job() -> None:
    stream = io.StringIO()
    Log(stream=stream, environment={}).info("version 3\x1b[31m", tier="alice", job="backup", event="done")
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d"
    assert re.fullmatch(time + r" alice backup: version 3\\x1b\[31m\n", stream.getvalue())


def test_the_journal_gets_priorities_instead_of_times() -> None:
    stream = io.StringIO()
    log = Log(stream=stream, environment={"JOURNAL_STREAM": "8:1"})
    log.error("failed")
    log.info("done")
    log.detail("not shown")
    assert stream.getvalue() == "<3>failed\n<6>done\n"


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
    voice = JobVoice(Log(stream=stream, environment={"JOURNAL_STREAM": "8:1"}), "hq", "receive")
    for lines in (["stranger", "stranger"], ["stranger"], [], ["stranger"]):
        voice.begin()
        for line in lines:
            voice.say(line, False)
    assert stream.getvalue() == "<6>hq receive: stranger\n" * 2


@pytest.mark.parametrize("count", [100, 101, 5000])
def test_a_flood_of_lines_is_cut(count: int) -> None:
    stream = io.StringIO()
    voice = JobVoice(Log(stream=stream, environment={}), "alice", "backup")
    voice.begin()
    for number in range(count):
        voice.say(f"file {number}: unreadable", True)
    assert len(stream.getvalue().splitlines()) == min(count, 101)
