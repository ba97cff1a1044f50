"""How long lists of results reach standard output."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from cdr_plugin.cli.output import Output
from cdr_plugin.errors import RemoteError


def _output(*, as_json: bool) -> tuple[Output, io.StringIO]:
    stdout = io.StringIO()
    return Output(as_json=as_json, stdout=stdout, stderr=io.StringIO()), stdout


def _broken() -> Iterator[str]:
    yield "one"
    yield "two"
    raise RemoteError("away")


def test_each_result_is_one_line_whatever_it_holds() -> None:
    output, stdout = _output(as_json=False)
    output.lines(["a\nb", "\x1b[31m", *map(str, range(1000))])
    output.documents(["not shown"])
    assert stdout.getvalue().splitlines() == ["a\\nb", "\\x1b[31m", *map(str, range(1000))]


def test_results_as_json_are_lines_or_one_array() -> None:
    output, stdout = _output(as_json=True)
    output.lines(["not shown"])
    output.documents({"n": number} for number in range(1000))
    assert [json.loads(line)["n"] for line in stdout.getvalue().splitlines()] == list(range(1000))
    for values in ([], [1], [1, {"a": "\udcff"}]):
        output, stdout = _output(as_json=True)
        with output.array() as add:
            for value in values:
                add(value)
        assert json.loads(stdout.getvalue()) == values
        assert stdout.getvalue().endswith("]\n")


@pytest.mark.parametrize("as_json", [False, True])
def test_what_came_before_an_error_is_shown(as_json: bool) -> None:
    output, stdout = _output(as_json=as_json)
    with pytest.raises(RemoteError):
        output.documents(_broken()) if as_json else output.lines(_broken())
    assert stdout.getvalue().replace('"', "") == "one\ntwo\n"


def test_an_array_that_broke_off_has_no_end() -> None:
    output, stdout = _output(as_json=True)
    with pytest.raises(RemoteError), output.array() as add:
        add(1)
        raise RemoteError("away")
    with pytest.raises(json.JSONDecodeError):
        json.loads(stdout.getvalue())
