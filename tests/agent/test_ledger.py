"""What the agent remembers survives, and what is no ledger is refused and stops nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.agent.elapsed import Moment
from cdr_plugin.agent.jobs import JobKind
from cdr_plugin.agent.ledger import NAME, format_ledger, parse_ledger, read_ledger, write_ledger
from cdr_plugin.agent.scheduler import Record
from cdr_plugin.errors import FormatError

moments = st.none() | st.builds(Moment, st.floats(-1e12, 1e12), st.floats(0, 1e12), st.none())
records = st.builds(Record, moments, st.integers(0, 10**6), st.text(max_size=500))


@given(st.dictionaries(st.sampled_from(JobKind), records))
def test_what_is_written_is_read(known: dict[JobKind, Record]) -> None:
    assert parse_ledger(format_ledger(known)) == known


def test_what_is_noted_is_there_for_the_next_agent(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == {}
    known = {JobKind.SEND: Record(Moment(5.0, 2.0), 3, "storage is away")}
    write_ledger(tmp_path, known)
    assert read_ledger(tmp_path) == known


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"format": 2, "jobs": {}}',
        b'{"format": 1, "jobs": {"send": {}}}',
        b'{"format": 1, "jobs": {"send": {"done": "x", "proven": 0, "failures": 0, "error": ""}}}',
        b'{"format": 1, "jobs": {"send": {"done": NaN, "proven": 0, "failures": 0, "error": ""}}}',
        b'{"format": 1, "jobs": {"send": {"done": 1, "proven": 1e999, "failures": 0, "error": ""}}}',
        b'{"format": 1, "jobs": {"send": {"done": 1, "proven": 0, "failures": [], "error": ""}}}',
        b'{"format": 1, "jobs": {"send": {"done": 1, "proven": 0, "failures": 1e999, "error": ""}}}',
        b'{"format": 1, "jobs": {"send": {"done": 1' + b"0" * 400 + b', "proven": 0, "failures": 0, "error": ""}}}',
        b"[" * 60_000,
        b"\xff" * 100_000,
    ],
)
def test_what_is_no_ledger_is_refused_with_its_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(FormatError, match=r"agent\.json: not the agent's notes .*; begun anew"):
        read_ledger(tmp_path)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_ledger_or_a_format_error(data: bytes) -> None:
    try:
        parse_ledger(data)
    except FormatError:
        pass
