"""Snapshots as other programs write them survive being read and written again."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdr_plugin.errors import FormatError
from cdr_plugin.model.versions import SnapshotSummary, decode_snapshot, encode_snapshot, snapshot_fields
from tests.support.patience import PATIENT

KNOWN: dict[str, Any] = {
    "time": "2024-02-03T04:05:06+01:00",
    "tree": "d" * 64,
    "paths": ["/a & b"],
    "hostname": "h",
    "tags": ["t"],
    "summary": {"backup_start": "2024-02-03T04:05:06Z", "backup_end": "2024-02-03T04:05:07Z"}
    | dict.fromkeys(SnapshotSummary.__struct_fields__[2:], 3),
}

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_unknown = st.dictionaries(st.text(max_size=8).map("x-{}".format), _json, max_size=4)


@given(_unknown, _unknown)
@PATIENT
def test_unknown_fields_survive_a_rewrite(more: dict[str, Any], of_summary: dict[str, Any]) -> None:
    written = {**KNOWN, **more, "summary": {**KNOWN["summary"], **of_summary}}
    snapshot = decode_snapshot(json.dumps(written).encode())
    assert json.loads(encode_snapshot(snapshot)) == written
    assert encode_snapshot(decode_snapshot(encode_snapshot(snapshot))) == encode_snapshot(snapshot)
    changed = msgspec.structs.replace(snapshot, tags=["new"], original="e" * 64)
    assert json.loads(encode_snapshot(changed)) == {**written, "tags": ["new"], "original": "e" * 64}


def test_numbers_beyond_any_type_survive_as_they_were_spelled() -> None:
    data = json.dumps(KNOWN).encode()[:-1] + b',"huge":1e400,"exact":1.10}'
    assert encode_snapshot(decode_snapshot(data)).endswith(b',"huge":1e400,"exact":1.10}')


def test_known_fields_come_first_in_the_order_of_restic() -> None:
    snapshot = decode_snapshot(json.dumps({"label": "<x>", **dict(reversed(KNOWN.items()))}).encode())
    encoded = encode_snapshot(snapshot)
    assert list(json.loads(encoded)) == [*KNOWN, "label"]
    assert encoded.endswith(b'"label":"\\u003cx\\u003e"}')


def test_a_summary_that_is_dropped_takes_its_unknown_fields_with_it() -> None:
    written = {**KNOWN, "label": 1, "summary": {**KNOWN["summary"], "command": "c"}}
    snapshot = decode_snapshot(json.dumps(written).encode())
    without = encode_snapshot(msgspec.structs.replace(snapshot, summary=None))
    assert json.loads(without) == {**{k: v for k, v in KNOWN.items() if k != "summary"}, "label": 1}


def test_json_shows_known_fields_only() -> None:
    assert snapshot_fields(decode_snapshot(json.dumps({**KNOWN, "label": 1}).encode())) == KNOWN


@pytest.mark.parametrize("data", [b'{"summary":7}', b'{"time":1}', b"[]", b'{"x":' + b"[" * 100_000])
def test_what_is_no_snapshot_is_a_format_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_snapshot(data)
