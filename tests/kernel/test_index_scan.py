"""The scanner of index files: both kernels read the same, and nothing but restic's own layout."""

from __future__ import annotations

import json
from hashlib import sha256
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdr_plugin.kernel import BLOB_RECORD, LISTED_RECORD, reference
from tests.kernel.conftest import load

U32 = 2**32 - 1


def name(number: int) -> str:
    return sha256(bytes([number])).hexdigest()


def blob(number: int, type_: str = "data", offset: int = 0, length: int = 32, **more: int) -> dict[str, Any]:
    return {"id": name(number), "type": type_, "offset": offset, "length": length, **more}


INDEX: dict[str, Any] = {
    "packs": [
        {"id": name(1), "blobs": [blob(2), blob(3, "tree", 32, U32 - 32, uncompressed_length=U32)]},
        {"id": name(4), "blobs": []},
        {"id": name(1), "blobs": [blob(2, "tree", 7, 1234567890, uncompressed_length=0)]},
    ]
}


def written(document: object) -> bytes:
    """As restic writes it."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


GOOD = written(INDEX)


def test_packs_and_blobs_come_as_records(kernel: ModuleType) -> None:
    packs, blobs = kernel.scan_index(GOOD, 32, True)
    ids = [bytes.fromhex(name(number)) for number in range(5)]
    assert list(LISTED_RECORD.iter_unpack(packs)) == [(ids[1], 2), (ids[4], 0), (ids[1], 1)]
    assert list(BLOB_RECORD.iter_unpack(blobs)) == [
        (0, ids[2], 0, 0, 32, 0),
        (1, ids[3], 0, 32, U32 - 32, U32),
        (1, ids[2], 2, 7, 1234567890, 0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        b'{"packs":[]}',
        b'{"packs":[]}\n',
        b'{"supersedes":[],"packs":[]}',
        b'{"supersedes":["%b","%b"],"packs":[]}' % (name(1).encode(), name(2).encode()),
    ],
)
def test_an_index_of_no_packs_is_read(kernel: ModuleType, text: bytes) -> None:
    assert kernel.scan_index(text, 32, False) == (b"", b"")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        GOOD + b"\n",
        GOOD[:-2],
        b" " + GOOD,
        GOOD.replace(b",", b", ", 1),
        GOOD.replace(b'"packs"', b'"Packs"'),
        GOOD.replace(name(1).encode(), name(1).upper().encode()),
        GOOD.replace(b'"data"', b'"date"'),
        GOOD.replace(b'"length":32', b'"length":32.0'),
        GOOD.replace(b'"length":32', b'"length":032'),
        GOOD.replace(b'"length":32', b'"length":-2'),
        GOOD.replace(b'"length":32', b'"length":'),
        GOOD.replace(b'"length":32', b'"length":31'),
        GOOD.replace(b'"offset":32', b'"offset":33'),
        GOOD.replace(b'"offset":0', b'"offset":4294967296'),
        GOOD.replace(b'"offset":0', b'"offset":18446744073709551616'),
        GOOD.replace(b"4294967295}", b"4294967296}"),
        GOOD.replace(b'"blobs":[]', b'"blobs":null'),
        GOOD.replace(b'"blobs":[]', b'"blobs":[,]'),
        GOOD.replace(b"},{", b"},,{", 1),
        GOOD.replace(b"}]}\n", b"},]}\n"),
        written({"packs": [], "supersedes": []}),
        b'{"supersedes":["%b"],"packs":[]}' % name(1)[1:].encode(),
        b'{"supersedes":["%b",],"packs":[]}' % name(1).encode(),
        b'{"supersedes":null,"packs":[]}',
    ],
)
def test_everything_else_is_left_to_a_parser(kernel: ModuleType, text: bytes) -> None:
    assert text != GOOD
    assert kernel.scan_index(text, 32, True) is None


def test_compressed_blobs_are_left_to_a_parser_where_there_may_be_none(kernel: ModuleType) -> None:
    assert kernel.scan_index(GOOD, 32, False) is None
    plain = written({"packs": [{"id": name(1), "blobs": [blob(2, uncompressed_length=0)]}]})
    assert kernel.scan_index(plain, 32, False) is not None


def test_arguments_that_cannot_be_are_refused(kernel: ModuleType) -> None:
    with pytest.raises(TypeError):
        kernel.scan_index(GOOD.decode(), 32, True)
    with pytest.raises(ValueError, match="least_length must be between 0 and 4294967295, not -1"):
        kernel.scan_index(GOOD, -1, True)
    with pytest.raises(TypeError):
        kernel.scan_index(GOOD)


def agree(text: bytes) -> None:
    for compressed in (False, True):
        assert load("_kernel").scan_index(text, 32, compressed) == reference.scan_index(text, 32, compressed)


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_c_and_python_agree_on_changed_files(data: st.DataObject) -> None:
    text = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 2))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        put = data.draw(st.one_of(st.binary(max_size=3), st.text('0123456789abcf"{}[],:', max_size=3).map(str.encode)))
        text[at : at + cut] = put
    agree(bytes(text))


def test_c_and_python_agree_on_every_beginning_and_every_flipped_byte() -> None:
    for at in range(len(GOOD)):
        agree(GOOD[:at])
        for bit in (1, 4, 32):
            agree(GOOD[:at] + bytes([GOOD[at] ^ bit]) + GOOD[at + 1 :])


@settings(deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 9), st.sampled_from(["data", "tree"]), st.integers(0, U32), st.integers(0, U32)
            ),
            max_size=5,
        ),
        max_size=5,
    )
)
def test_c_and_python_agree_on_files_as_restic_writes_them(packs: list[list[tuple[int, str, int, int]]]) -> None:
    listed = [{"id": name(at), "blobs": [blob(*fields) for fields in blobs]} for at, blobs in enumerate(packs)]
    agree(written({"packs": listed}))
